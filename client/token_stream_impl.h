// The working half of TokenStream: one call at a time, and the next one where that is allowed. The first is Generate.
// Before the first token a repetition is Generate again, under the same idempotency key, so that it attaches to what
// runs already. After it a broken stream is taken up by Resume, from the first index that is missing; where the
// scheduler does not know the request any more, Generate goes on from all tokens received, which the model takes as its
// own (resume_token_ids) under the seed of the first attempt.
#ifndef TANDEM_CLIENT_TOKEN_STREAM_IMPL_H_
#define TANDEM_CLIENT_TOKEN_STREAM_IMPL_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

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
  enum class Way { kGenerate, kResume, kGoOn };

  bool Open();                           // false: cancelled before it could
  bool Read(v1::GenerateResponse* out);  // of whichever call runs
  absl::Status CloseAttempt();           // how the attempt that runs has ended
  // Decides how to go on after a failed attempt, and waits until it is time. False: not at all.
  bool GoOnAfter(const absl::Status& status);
  bool TryAgain(const absl::Status& status);     // nothing was delivered yet
  bool TakeUpAgain(const absl::Status& status);  // something was
  bool WaitFor(absl::Duration wait);             // false: the deadline comes first
  std::string Key() const;
  v1::GenerateRequest GoingOn() const;
  // What of a chunk the caller has not seen. Nothing where it has all of it.
  absl::StatusOr<std::optional<v1::Chunk>> TakeChunk(v1::Chunk chunk);
  void AbortIfLeft();
  void End(absl::Status status);

  // Fixed after construction.
  const std::shared_ptr<v1::InferenceService::Stub> stub_;
  v1::GenerateRequest request_;
  const GenerateOptions options_;
  const absl::Time deadline_;
  const bool own_key_;  // the caller gave none

  // The reading thread's own.
  Way way_ = Way::kGenerate;
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> generating_;
  std::unique_ptr<grpc::ClientReader<v1::ResumeResponse>> resuming_;
  int attempts_ = 0;
  int resumes_ = 0;
  int going_on_ = 0;  // keys used up for it
  std::string lost_;  // the request that could not be resumed
  int tries_ = 0;     // since the stream broke
  absl::Time broken_at_ = absl::InfiniteFuture();
  std::vector<uint32_t> ids_;    // all tokens so far, those that the request came with included
  bool heard_ = false;           // the scheduler has said something: it knows the request
  bool delivered_ = false;       // a chunk has been handed out
  bool tail_delivered_ = false;  // the text that only the end makes final
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
