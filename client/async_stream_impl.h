// The working half of AsyncStream: gRPC's callbacks along a StreamCourse, and the count of what is under way.
#ifndef TANDEM_CLIENT_ASYNC_STREAM_IMPL_H_
#define TANDEM_CLIENT_ASYNC_STREAM_IMPL_H_

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/async_client.h"
#include "client/silence_watch.h"
#include "client/stream_course.h"
#include "tandem/v1/inference.grpc.pb.h"

namespace tandem::client {

// What calls need of their client. It is theirs to use while they hold a CallToken.
struct AsyncLink {
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::InferenceService::Stub> stub;

  absl::Mutex mu;
  int calls ABSL_GUARDED_BY(mu) = 0;
};

// Counts a call. The client's end waits for the last one, and so the channel never ends on a thread of gRPC's own,
// which would wait for itself. REQUIRES: the first member of its owner, hence the last to go.
class CallToken {
 public:
  explicit CallToken(AsyncLink* link) : link_(link) {
    absl::MutexLock lock(&link_->mu);
    ++link_->calls;
  }
  ~CallToken() {
    absl::MutexLock lock(&link_->mu);
    --link_->calls;
  }
  CallToken(const CallToken&) = delete;
  CallToken& operator=(const CallToken&) = delete;

  AsyncLink* operator->() const { return link_; }
  AsyncLink* get() const { return link_; }

 private:
  AsyncLink* const link_;
};

// Life: idle -> [calling -> (waiting -> calling)*] -> ended. While a call runs its Attempt holds this; while it waits,
// the alarm does. gRPC's completions come on other threads or after the function that started them has returned, so
// mu_ may be held while an operation is started, and is never held while the handler runs.
class AsyncStream::Impl : public std::enable_shared_from_this<AsyncStream::Impl> {
 public:
  Impl(AsyncLink* link, v1::GenerateRequest request, GenerateOptions options, std::function<void(StreamEvent)> handler);

  void Next();
  void Cancel();

 private:
  class Attempt;
  template <typename Response>
  class AttemptOf;

  void Open() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Of the running attempt. True: read on.
  bool OnMessage(v1::GenerateResponse message);
  void OnCallEnded(const grpc::Status& status);
  void OnWaited();
  void AbortWhatIsLeft() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Fixed after construction.
  const CallToken link_;
  const GenerateOptions options_;
  const std::function<void(StreamEvent)> handler_;

  absl::Mutex mu_;
  StreamCourse course_ ABSL_GUARDED_BY(mu_);
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status fault_ ABSL_GUARDED_BY(mu_);  // the answer is not whole; the call is being cancelled
  bool idle_ ABSL_GUARDED_BY(mu_) = true;    // an event was handed out, and the next one has not been asked for
  Attempt* attempt_ ABSL_GUARDED_BY(mu_) = nullptr;
  std::unique_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem::client

#endif  // TANDEM_CLIENT_ASYNC_STREAM_IMPL_H_
