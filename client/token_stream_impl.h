// The working half of TokenStream: blocking calls, one at a time, along a StreamCourse.
#ifndef TANDEM_CLIENT_TOKEN_STREAM_IMPL_H_
#define TANDEM_CLIENT_TOKEN_STREAM_IMPL_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/steady_wait.h"
#include "client/client.h"
#include "client/silence_watch.h"
#include "client/stream_course.h"
#include "client/token_stream.h"
#include "tandem/v1/inference.grpc.pb.h"

namespace tandem::client {

class TokenStream::Impl {
 public:
  Impl(std::shared_ptr<grpc::Channel> channel, std::shared_ptr<v1::InferenceService::Stub> stub,
       v1::GenerateRequest request, GenerateOptions options);
  ~Impl();

  std::optional<v1::Chunk> Next();
  void Cancel();

  const absl::StatusOr<GenerateResult>& result() const { return course_.result(); }
  const v1::Accepted& accepted() const { return course_.accepted(); }

 private:
  bool Open();                           // false: cancelled before it could
  bool Read(v1::GenerateResponse* out);  // of whichever call runs
  absl::Status CloseCall();              // how the call that runs has ended
  // Decides how to go on after a call, and waits until it is time. False: not at all.
  bool GoOnAfter(absl::Status status);
  bool Cancelled();
  void AbortIfLeft();

  // Fixed after construction.
  const std::shared_ptr<grpc::Channel> channel_;
  const std::shared_ptr<v1::InferenceService::Stub> stub_;
  const GenerateOptions options_;

  // The reading thread's own.
  StreamCourse course_;
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> generating_;
  std::unique_ptr<grpc::ClientReader<v1::ResumeResponse>> resuming_;
  std::shared_ptr<SilenceWatch> watch_;  // of the call that runs

  absl::Mutex mu_;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  SteadyCondVar cancelled_now_;
  // Written by the reading thread under mu_, so that Cancel() meets a live one.
  std::unique_ptr<grpc::ClientContext> context_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem::client

#endif  // TANDEM_CLIENT_TOKEN_STREAM_IMPL_H_
