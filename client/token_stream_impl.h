// The working half of TokenStream: one Generate call at a time, opened again while that is allowed.
#ifndef TANDEM_CLIENT_TOKEN_STREAM_IMPL_H_
#define TANDEM_CLIENT_TOKEN_STREAM_IMPL_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/client.h"
#include "client/token_stream.h"
#include "tandem/v1/inference.grpc.pb.h"

namespace tandem::client {

class TokenStream::Impl {
 public:
  Impl(std::shared_ptr<v1::InferenceService::Stub> stub, v1::GenerateRequest request, GenerateOptions options);
  ~Impl();

  std::optional<v1::Chunk> Next();
  void Cancel();

  const absl::StatusOr<GenerateResult>& result() const { return result_; }
  const v1::Accepted& accepted() const { return accepted_; }

 private:
  using Reader = grpc::ClientReader<v1::GenerateResponse>;

  bool Open();                  // false: cancelled before it could
  absl::Status CloseAttempt();  // how the attempt that runs has ended
  bool MayRetry(const absl::Status& status) const;
  bool WaitBeforeRetry(const absl::Status& status);  // false: the deadline comes first
  absl::Status CheckChunk(const v1::Chunk& chunk);
  void End(absl::Status status);

  // Fixed after construction.
  const std::shared_ptr<v1::InferenceService::Stub> stub_;
  const v1::GenerateRequest request_;
  const GenerateOptions options_;
  const absl::Time deadline_;

  // The reading thread's own.
  std::unique_ptr<Reader> reader_;
  int attempts_ = 0;
  uint32_t next_index_;     // of the token that must come next
  bool delivered_ = false;  // a chunk has been handed out: no more repetitions
  bool ended_ = false;
  bool finished_seen_ = false;
  v1::Accepted accepted_;
  v1::Finished finished_;
  absl::StatusOr<GenerateResult> result_;

  absl::Mutex mu_;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  // Written by the reading thread under mu_, so that Cancel() meets a live one.
  std::unique_ptr<grpc::ClientContext> context_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem::client

#endif  // TANDEM_CLIENT_TOKEN_STREAM_IMPL_H_
