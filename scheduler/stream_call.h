// What a Generate and a Resume call share: a server stream that reads one RequestStream.
//
// Owns itself: gRPC holds it until OnDone. A thread that still works for the call (tokenizing) holds it too.
#ifndef TANDEM_SCHEDULER_STREAM_CALL_H_
#define TANDEM_SCHEDULER_STREAM_CALL_H_

#include <grpcpp/support/server_callback.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "scheduler/caller_ids.h"
#include "scheduler/clock.h"
#include "scheduler/request_log.h"
#include "scheduler/request_stream.h"
#include "scheduler/security/admission.h"
#include "scheduler/slow_clients.h"
#include "scheduler/token_router.h"

namespace tandem::scheduler {

// `Response` is GenerateResponse, or has the same events.
template <typename Response>
class StreamCall : public grpc::ServerWriteReactor<Response>,
                   public ClientSink,
                   public WatchedCall,
                   public AdmittedCall,
                   public std::enable_shared_from_this<StreamCall<Response>> {
 public:
  // `tenant`: as the request says, checked or not.
  StreamCall(TokenRouter* router, RequestLog* log, grpc::CallbackServerContext* context, const std::string& tenant,
             Admission admission)
      : router_(router), log_(log), admission_(std::move(admission)), context_(context), reader_(this) {
    asked_.tenant = tenant;
    asked_.caller = ReadCallerIds(context->client_metadata());
  }

  // Keeps the call alive until OnDone. Once, right after construction.
  void Hold() { self_ = this->shared_from_this(); }

  // ---- ClientSink
  void Open() override {
    begun_ = true;
    this->Writing(reader_.last_sent);
    this->StartSendInitialMetadata();
  }
  void Send(const v1::GenerateResponse& message, bool more) override {
    // A first message that no Open went before carries the initial metadata, and gRPC starts no write for metadata
    // under a hint: the message would wait for the next one, and the next one for this.
    grpc::WriteOptions options;
    if (more && begun_) options.set_buffer_hint();
    begun_ = true;
    this->Writing(reader_.last_sent);
    this->StartWrite(Shaped(message), options);
  }
  void SendLast(const v1::GenerateResponse& message) override {
    this->Writing(reader_.last_sent);
    this->StartWriteAndFinish(Shaped(message), grpc::WriteOptions(), grpc::Status::OK);
  }
  void End(const Error& error) override { this->Finish(ToGrpc(error)); }

  // ---- reactions
  void OnSendInitialMetadataDone(bool ok) override { OnSent(ok); }
  void OnWriteDone(bool ok) override { OnSent(ok); }
  void OnCancel() override {
    {
      absl::MutexLock lock(&mu_);
      cancelled_ = true;
      if (!attached_) return;  // whoever is about to attach it sees `cancelled_`
    }
    stream_->Detach(&reader_);
  }
  void OnDone() override {
    if (stream_) {
      router_->slow_clients().Forget(this);
      admission_.Leave(this);
      router_->ClientLeft(stream_);
    }
    {
      absl::MutexLock lock(&context_mu_);
      context_ = nullptr;
    }
    auto self = std::move(self_);
  }

  // ---- WatchedCall
  void Drop() override {
    absl::MutexLock lock(&context_mu_);
    if (context_ != nullptr) context_->TryCancel();
  }
  std::shared_ptr<WatchedCall> Keep() override { return this->shared_from_this(); }

  // ---- AdmittedCall
  void PutOut(const Error& why) override { stream_->Detach(&reader_, why); }
  std::shared_ptr<AdmittedCall> KeepAdmitted() override { return this->shared_from_this(); }

 protected:
  // Ends the call before it read anything, or makes it read `stream` from token `next` on. One of the two, once.
  void Refuse(const Error& error) {
    log_->Refused(asked_, error, Now());
    this->Finish(ToGrpc(error));
  }
  // What is asked for turned out to be this model.
  void SetModel(const std::string& name) { asked_.model = name; }
  const CallerIds& caller() const { return asked_.caller; }
  const Admission& admission() const { return admission_; }
  void Read(std::shared_ptr<RequestStream> stream, size_t next) {
    const auto self = this->shared_from_this();  // the stream may end the call before this returns
    stream_ = std::move(stream);
    router_->slow_clients().Watch(this);
    admission_.Enter(this);
    if (const auto error = stream_->Attach(&reader_, next)) {
      Refuse(*error);
      return;
    }
    bool cancelled;
    {
      absl::MutexLock lock(&mu_);
      attached_ = true;
      cancelled = cancelled_;
    }
    if (cancelled) stream_->Detach(&reader_);
  }
  bool Cancelled() {
    absl::MutexLock lock(&mu_);
    return cancelled_;
  }

 private:
  void OnSent(bool ok) {
    this->Written();
    stream_->OnSent(&reader_, ok);
  }
  const Response* Shaped(const v1::GenerateResponse& message) {
    if constexpr (std::is_same_v<Response, v1::GenerateResponse>) {
      return &message;
    } else {
      shaped_.Clear();
      switch (message.event_case()) {
        case v1::GenerateResponse::kAccepted:
          *shaped_.mutable_accepted() = message.accepted();
          break;
        case v1::GenerateResponse::kProgress:
          *shaped_.mutable_progress() = message.progress();
          break;
        case v1::GenerateResponse::kChunk:
          *shaped_.mutable_chunk() = message.chunk();
          break;
        case v1::GenerateResponse::kFinished:
          *shaped_.mutable_finished() = message.finished();
          break;
        case v1::GenerateResponse::EVENT_NOT_SET:
          break;
      }
      return &shaped_;
    }
  }

  TokenRouter* const router_;
  RequestLog* const log_;
  const Admission admission_;
  RefusedCall asked_;       // of the thread that works for the call before it reads
  absl::Mutex context_mu_;  // held only for a word to gRPC, which answers on threads of its own
  grpc::CallbackServerContext* context_ ABSL_GUARDED_BY(context_mu_);  // null once done
  std::shared_ptr<StreamCall> self_;
  std::shared_ptr<RequestStream> stream_;  // set before Attach, never changed
  Reader reader_;
  Response shaped_;     // of the one message under way
  bool begun_ = false;  // of whoever holds the turn

  absl::Mutex mu_;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  bool attached_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_STREAM_CALL_H_
