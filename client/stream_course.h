// The course of one completion over as many calls as it takes: which call comes next, what of an answer the caller has
// not seen, and whether to go on when a call has ended. TokenStream drives it with blocking calls, AsyncStream with
// callbacks; both therefore retry and resume alike.
//
// The first call is Generate. Before the first token a repetition is Generate again, under the same idempotency key, so
// that it attaches to what runs already. After it a broken stream is taken up by Resume, from the first index that is
// missing; where the scheduler does not know the request any more, Generate goes on from all tokens received, which the
// model takes as its own (resume_token_ids) under the seed of the first attempt.
//
// Pure: it makes no call, waits for nothing, and is told the time. Not synchronised.
#ifndef TANDEM_CLIENT_STREAM_COURSE_H_
#define TANDEM_CLIENT_STREAM_COURSE_H_

#include <cstddef>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "client/token_stream.h"
#include "tandem/v1/inference.pb.h"

namespace tandem::client {

class StreamCourse {
 public:
  StreamCourse(v1::GenerateRequest request, const GenerateOptions& options, absl::Time now);

  // The call to make now. Counts as an attempt. `connected`: over a connection that stands, so that the scheduler may
  // have had the request although nothing of it is ever heard.
  std::variant<v1::GenerateRequest, v1::ResumeRequest> NextCall(bool connected);

  // Takes a message of the call that runs. What it brought for the caller: its kind is that of `message`, whose chunk
  // is cut to what is new. False: nothing. An error: the answer is not whole, and the stream ends with it.
  absl::StatusOr<bool> Take(v1::GenerateResponse& message);

  // The call has ended, well or not. How long to wait before the next one; nothing where the stream ends here, and then
  // Result() says how.
  std::optional<absl::Duration> CallEnded(absl::Status status, absl::Time now);
  // Ends it from outside: cancelled, or Take() failed.
  void End(absl::Status status);

  bool ended() const { return ended_; }
  absl::Time deadline() const { return deadline_; }
  const absl::StatusOr<GenerateResult>& result() const { return result_; }
  const v1::Accepted& accepted() const { return accepted_; }
  // A request with a key of its own making outlives its call for a while, so that a broken stream can come back. Who
  // leaves says so with this; nothing where there is nothing to abort.
  std::optional<v1::AbortRequest> AbortOfWhatIsLeft() const;

 private:
  enum class Way { kGenerate, kResume, kGoOn };

  std::optional<absl::Duration> TryAgain(const absl::Status& status, absl::Time now);     // nothing was delivered yet
  std::optional<absl::Duration> TakeUpAgain(const absl::Status& status, absl::Time now);  // something was
  std::string Key() const;
  v1::GenerateRequest GoingOn() const;
  absl::StatusOr<bool> TakeChunk(const v1::Chunk& chunk);

  const v1::GenerateRequest request_;
  const GenerateOptions options_;
  const absl::Time deadline_;
  const bool own_key_;  // the caller gave none

  Way way_ = Way::kGenerate;
  int attempts_ = 0;
  int resumes_ = 0;
  int going_on_ = 0;  // keys used up for it
  std::string lost_;  // the request that could not be resumed
  int tries_ = 0;     // since the stream broke
  absl::Time broken_at_ = absl::InfiniteFuture();
  std::vector<uint32_t> ids_;    // all tokens so far, those that the request came with included
  bool had_ = false;             // a scheduler that was there may know the request
  bool delivered_ = false;       // a chunk has been handed out
  bool tail_delivered_ = false;  // the text that only the end makes final
  bool ended_ = false;
  bool finished_seen_ = false;
  v1::Accepted accepted_;
  v1::Finished finished_;
  absl::StatusOr<GenerateResult> result_;
};

// Resume answers in messages of its own with the same events.
v1::GenerateResponse AsGenerateResponse(v1::ResumeResponse response);

}  // namespace tandem::client

#endif  // TANDEM_CLIENT_STREAM_COURSE_H_
