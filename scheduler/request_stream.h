// One request between its arrival and the end of its retention: what an engine needs to compute it, every token that
// came out, and the clients that read them.
//
// Exactly once by index. Tokens are appended in order and from the current attempt only; what comes again is dropped,
// what comes with a hole spoils the request. Each client has its own place in the log, so a slow one holds up nobody, a
// second one (same idempotency key, or Resume) starts where it wants, and nothing is buffered per client but one
// message.
//
// The log is bounded by max_tokens. Text is a pure function of it: a chunk over tokens [a, b) carries T(b) - T(a),
// however the chunks are cut. What only the end makes final (half a character, the beginning of a stop string that did
// not go on) comes in a last chunk without tokens.
//
// Any thread may call; each call takes the stream's lock for itself and touches a client only after it has let it go. A
// client has one message under way at most: who sees it idle fills its message, marks it busy and sends.
#ifndef TANDEM_SCHEDULER_REQUEST_STREAM_H_
#define TANDEM_SCHEDULER_REQUEST_STREAM_H_

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/inlined_vector.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "scheduler/caller_ids.h"
#include "scheduler/core/event.h"
#include "scheduler/core/types.h"
#include "scheduler/grpc_error.h"
#include "scheduler/token_log.h"
#include "tandem/v1/inference.pb.h"
#include "tandem/v1/worker.pb.h"

namespace tandem::scheduler {

class RequestFlow;

// The far end of one Generate or Resume call. Send and End are called by whoever holds the turn, never twice at a time.
class ClientSink {
 public:
  virtual ~ClientSink() = default;
  // Sends what goes before the first message, ahead of it, so that the first message can share a packet with the next
  // one. The sink calls RequestStream::OnSent when it is done.
  virtual void Open() = 0;
  // Sends `message`, which stays as it is until the sink calls RequestStream::OnSent. `more`: another follows at once.
  virtual void Send(const v1::GenerateResponse& message, bool more) = 0;
  // The two ways to end. After either the stream does not know the sink any more, and the sink does not call OnSent.
  virtual void SendLast(const v1::GenerateResponse& message) = 0;  // and status OK
  virtual void End(const Error& error) = 0;
};

// A client's place in the log. Lives in the sink; the stream's lock guards it while it is attached.
struct Reader {
  explicit Reader(ClientSink* s) : sink(s) {}
  ClientSink* const sink;
  v1::GenerateResponse message;  // used again and again: its buffers stay
  size_t next = 0;               // index of the first token not sent
  core::Attempt announced;       // the attempt of the last Accepted
  core::Instant last_sent;
  bool opened = false;               // something was sent
  bool busy = false;                 // a message is under way
  bool leaving = false;              // the client is gone; end it when the message under way comes back
  std::optional<Error> leaves_with;  // where it did not go by itself
  bool progress_due = false;
  bool tail_sent = false;
};

class RequestStream {
 public:
  // Where the request comes from: from a client, or from an engine that an earlier scheduler gave it to, which computes
  // it or has ended it already. The core does not know those that have ended.
  enum class Origin { kClient, kFound, kFoundEnded };
  // Fixed at arrival.
  struct Facts {
    core::RequestId id;
    std::string model;  // its name, whatever alias the client wrote
    std::string model_revision;
    std::string tenant, idempotency_key;
    uint64_t fingerprint = 0;  // of what is asked (validate_request.h): the same key must mean the same question
    uint32_t prompt_tokens = 0;
    uint32_t vocab_size = 0;
    bool logprobs = false;
    uint64_t seed = 0;
    core::Duration chunk_interval;
    core::Instant arrived;
    std::shared_ptr<const tokenizer::Tokenizer> tokenizer;
    std::vector<std::string> stop;
    std::vector<uint32_t> known_output;  // resume_token_ids: the client has them
    bool continues_text = false;         // the prompt has text
    size_t vector_bytes = 0;             // an encoder's request: its answer is a vector of this size; 0: tokens
    CallerIds caller;
    RequestFlow* flow = nullptr;  // where it is counted; null: nowhere
    // Of one that was found: an earlier scheduler has counted so many of its tokens, and seen the first come.
    size_t counted_output = 0;
    std::string input;  // of an encoder's request: how its call names what it asks: "inputs[3]"
    Origin origin = Origin::kClient;
  };
  // Where the current attempt runs.
  struct Assignment {
    core::Attempt attempt;
    core::GroupId group;
    core::GroupEpoch epoch;
    core::DeviceId rank0;
    uint32_t max_tokens = 0;
    std::string numerics_id;
  };
  // What the router has to tell the core after an update.
  enum class Verdict {
    kNothing,
    kComputed,  // the first token since it started
    kStale,     // of another attempt, or of a request that has its end: counted, ignored
    kStopped,   // a stop string: the client has its end
    kSpoiled,   // a hole, a changed token, an id that the model does not have: the client has its error
  };

  // `payload` is what an engine needs, without output_ids, attempt and group.
  RequestStream(Facts facts, v1::AssignRequest payload);

  const Facts& facts() const { return facts_; }

  // ---- from the core's thread
  void OnQueued(const std::string& why);
  // The next attempt begins; its tokens count from here on. Fills `command` with all that rank 0 needs but the
  // deadline. False when the client has its end, or all its tokens, and nothing need be computed.
  bool OnAssigned(const Assignment& assignment, v1::AssignRequest* command);
  // The command is on its way. From here on the call is open: what refuses it unheard has been passed, and the time
  // until the first token is free.
  void OnDispatched();
  // The last word of a request that did not finish. Ignored when the client has its end.
  void Fail(Error error);
  // The core has let the request go: the payload is dropped, the log stays.
  void Release();

  // ---- from an engine of an earlier scheduler
  // It is what the engine computes; its tokens follow from index 0 on, and those that are here already must be the
  // same.
  void OnFound(const Assignment& assignment);

  // ---- from rank 0. `flush` false: more updates of this request follow at once.
  Verdict OnStarted(core::Attempt attempt, uint32_t cached_tokens, bool flush);
  Verdict OnProduced(core::Attempt attempt, const v1::Produced& produced, core::Instant now, bool flush);
  Verdict OnPreempted(core::Attempt attempt, bool flush);
  Verdict OnEnded(core::Attempt attempt, const v1::Ended& ended, core::Instant now, bool flush);

  // ---- from clients
  // From then on `reader` gets what it does not have, from token `next` on. INVALID_PARAMETER when there are fewer; of
  // a request that was found the rest may be on its way, and whoever was told of it waits. RESUME_UNKNOWN when it was
  // abandoned.
  std::optional<Error> Attach(Reader* reader, size_t next);
  // The message under way came back. Not ok: the client is gone.
  void OnSent(Reader* reader, bool ok);
  // The client is gone, or may read no more for the reason that is given. Its sink gets End, now or when its message
  // comes back.
  void Detach(Reader* reader, std::optional<Error> why = std::nullopt);
  bool HasReaders() const;
  // For Progress; the core knows it, from time to time.
  void SetQueuePosition(uint32_t position);

  // ---- from the router's clock
  // Sends gathered chunks that are due, and Progress to clients that heard nothing since `silent_since`.
  void OnTick(core::Instant now, core::Instant silent_since);

  // Where `attempt` runs, if it is the latest.
  std::optional<core::DeviceId> Rank0(core::Attempt attempt) const;
  // For an attempt that OnAssigned did not want: how the request really ended, in the words of an engine.
  core::RequestEnded HowEnded(core::Attempt attempt) const;
  // The latest; counter 0 where there was none.
  core::Attempt attempt() const;
  // Whether the output begins with these tokens, as far as both go.
  bool Agrees(absl::Span<const uint32_t> ids) const;
  // Has its end: finished or failed.
  bool Ended() const;
  // What its clients were told where it failed; nothing where it finished or lives.
  std::optional<Error> failure() const;
  // How far it came.
  struct Course {
    std::optional<core::Duration> assigned, first_token;  // since it arrived
    core::GroupId group;                                  // of the latest attempt; 0: there was none
    size_t output_tokens = 0;
  };
  Course course() const;
  // What its clients were told at the end; nothing where it failed or has not ended.
  std::optional<v1::Finished> Result() const;
  // Where nobody reads it and it has not ended: it is to be cancelled for that, and whoever comes later asks for it in
  // vain. False: there is somebody, or nothing to cancel.
  bool AbandonUnread();
  // A second call with its key, or Resume, may read it. One that failed is only told its failure by Resume.
  bool abandoned() const { return abandoned_.load(std::memory_order_relaxed); }
  bool MayAttach() const;
  core::RequestState state() const;
  size_t output_tokens() const;  // those of resume_token_ids included
  size_t bytes() const;          // of the log, for the store's account
  // An encoder's answer, once. REQUIRES: it has finished.
  std::string TakeVector();
  // When gathered tokens are due, once for each tick that is wanted: kNever when nothing waits or a tick was promised.
  core::Instant TakeGatherDue();

 private:
  // What is to be done with a reader's sink once the lock is let go.
  struct Wake {
    enum Kind { kOpen, kSend, kSendMore, kSendLast, kEnd };
    ClientSink* sink;
    Reader* reader;
    Kind kind;
    std::optional<Error> error = {};  // of kEnd
  };
  using Wakes = absl::InlinedVector<Wake, 1>;

  bool Assign(const Assignment& assignment, v1::AssignRequest* command, Wakes* wakes) ABSL_LOCKS_EXCLUDED(mu_);
  bool Current(core::Attempt attempt) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // An engine has taken up the current attempt.
  void MarkStarted() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Verdict Spoil(const std::string& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Finish(v1::FinishReason reason, core::Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Appends what is new in `produced`; the first stop string ends it.
  Verdict Append(const v1::Produced& produced, core::Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // So many tokens came that were not here before.
  void CountNew(size_t tokens, core::Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Gives every idle reader its next message, if there is one.
  void PumpAll(core::Instant now, Wakes* wakes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Pump(Reader* reader, core::Instant now, Wakes* wakes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ComposeAccepted(Reader* reader) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ComposeProgress(Reader* reader) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Remove(Reader* reader) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool IsRead() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  static void Run(const Wakes& wakes);

  const Facts facts_;
  std::atomic<bool> abandoned_{false};
  mutable absl::Mutex mu_;
  v1::AssignRequest payload_ ABSL_GUARDED_BY(mu_);
  absl::InlinedVector<Reader*, 1> readers_ ABSL_GUARDED_BY(mu_);

  core::RequestState state_ ABSL_GUARDED_BY(mu_) = core::RequestState::kQueued;
  std::string waits_for_ ABSL_GUARDED_BY(mu_);
  uint32_t queue_position_ ABSL_GUARDED_BY(mu_) = 0;
  std::optional<Assignment> assignment_ ABSL_GUARDED_BY(mu_);
  Assignment started_ ABSL_GUARDED_BY(mu_);  // the attempt that an engine took up last; Accepted is due for it
  uint32_t cached_tokens_ ABSL_GUARDED_BY(mu_) = 0;
  bool computing_ ABSL_GUARDED_BY(mu_) = false;  // the prompt: it has started, and no token came since
  uint32_t preemptions_ ABSL_GUARDED_BY(mu_) = 0;

  TokenLog log_ ABSL_GUARDED_BY(mu_);
  size_t released_ ABSL_GUARDED_BY(mu_) = 0;  // tokens below may be sent; those above are being gathered
  core::Instant released_at_ ABSL_GUARDED_BY(mu_);
  bool tick_promised_ ABSL_GUARDED_BY(mu_) = false;

  bool ended_ ABSL_GUARDED_BY(mu_) = false;  // the clients' end; the core may still wait for the engine's word
  std::optional<Error> failure_ ABSL_GUARDED_BY(mu_);  // none: finished
  v1::Finished finished_ ABSL_GUARDED_BY(mu_);
  std::string vector_ ABSL_GUARDED_BY(mu_);
  core::Instant assigned_at_ ABSL_GUARDED_BY(mu_), first_token_at_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_REQUEST_STREAM_H_
