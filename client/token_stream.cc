#include "client/token_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/channel.h"
#include "client/error.h"
#include "client/token_stream_impl.h"

namespace tandem::client {

TokenStream::Impl::Impl(std::shared_ptr<v1::InferenceService::Stub> stub, v1::GenerateRequest request,
                        GenerateOptions options)
    : stub_(std::move(stub)),
      request_(std::move(request)),
      options_(std::move(options)),
      deadline_(absl::Now() + options_.timeout),
      next_index_(static_cast<uint32_t>(request_.resume_token_ids_size())),
      result_(absl::FailedPreconditionError("the stream has not ended")) {}

TokenStream::Impl::~Impl() {
  Cancel();
  if (reader_ != nullptr) CloseAttempt().IgnoreError();
}

std::optional<v1::Chunk> TokenStream::Impl::Next() {
  while (!ended_) {
    if (reader_ == nullptr && !Open()) {
      End(absl::CancelledError("cancelled"));
      break;
    }
    v1::GenerateResponse response;
    if (!reader_->Read(&response)) {
      absl::Status status = CloseAttempt();
      if (status.ok() && !finished_seen_) status = absl::InternalError("the stream ended without saying how");
      if (MayRetry(status) && WaitBeforeRetry(status)) continue;
      End(std::move(status));
      break;
    }
    switch (response.event_case()) {
      case v1::GenerateResponse::kAccepted:
        accepted_ = std::move(*response.mutable_accepted());
        break;
      case v1::GenerateResponse::kProgress:
        if (accepted_.request_id().empty()) accepted_.set_request_id(response.progress().request_id());
        if (options_.on_progress) options_.on_progress(response.progress());
        break;
      case v1::GenerateResponse::kChunk:
        if (absl::Status status = CheckChunk(response.chunk()); !status.ok()) {
          Cancel();
          CloseAttempt().IgnoreError();
          End(std::move(status));
          return std::nullopt;
        }
        delivered_ = true;
        return std::move(*response.mutable_chunk());
      case v1::GenerateResponse::kFinished:
        finished_ = std::move(*response.mutable_finished());
        finished_seen_ = true;
        break;
      case v1::GenerateResponse::EVENT_NOT_SET:
        break;  // a newer scheduler's word; all that this version must know it knows
    }
  }
  return std::nullopt;
}

bool TokenStream::Impl::Open() {
  absl::MutexLock lock(&mu_);
  if (cancelled_) return false;
  context_ = std::make_unique<grpc::ClientContext>();
  SetDeadline(*context_, deadline_);
  ++attempts_;
  accepted_.Clear();
  reader_ = stub_->Generate(context_.get(), request_);
  return true;
}

absl::Status TokenStream::Impl::CloseAttempt() {
  const absl::Status status = FromGrpc(reader_->Finish());
  reader_.reset();
  absl::MutexLock lock(&mu_);
  context_.reset();
  return status;
}

bool TokenStream::Impl::MayRetry(const absl::Status& status) const {
  return absl::IsUnavailable(status) && !delivered_ && attempts_ <= options_.retries;
}

bool TokenStream::Impl::WaitBeforeRetry(const absl::Status& status) {
  const absl::Duration doubled = options_.first_backoff * static_cast<double>(1u << std::min(attempts_ - 1, 20));
  const absl::Duration wait = std::min(RetryDelay(status).value_or(doubled), options_.most_backoff);
  // An answer that must come too late is worse than the one there is.
  if (absl::Now() + wait >= deadline_) return false;
  absl::MutexLock lock(&mu_);
  mu_.AwaitWithTimeout(absl::Condition(&cancelled_), wait);
  return true;  // cancelled or not: Open() looks
}

absl::Status TokenStream::Impl::CheckChunk(const v1::Chunk& chunk) {
  if (chunk.offset() != next_index_) {
    return absl::InternalError(absl::StrCat("chunk begins at token ", chunk.offset(), ", expected ", next_index_,
                                            ": a token was lost or sent twice"));
  }
  next_index_ += static_cast<uint32_t>(chunk.token_ids_size());
  return absl::OkStatus();
}

void TokenStream::Impl::End(absl::Status status) {
  ended_ = true;
  if (status.ok()) {
    result_ = GenerateResult{accepted_, finished_, attempts_};
  } else {
    result_ = std::move(status);
  }
}

void TokenStream::Impl::Cancel() {
  absl::MutexLock lock(&mu_);
  cancelled_ = true;
  if (context_ != nullptr) context_->TryCancel();
}

TokenStream::TokenStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TokenStream::TokenStream(TokenStream&&) noexcept = default;
TokenStream& TokenStream::operator=(TokenStream&&) noexcept = default;
TokenStream::~TokenStream() = default;

std::optional<v1::Chunk> TokenStream::Next() { return impl_->Next(); }
const absl::StatusOr<GenerateResult>& TokenStream::Result() const { return impl_->result(); }
const v1::Accepted& TokenStream::accepted() const { return impl_->accepted(); }
void TokenStream::Cancel() { impl_->Cancel(); }

}  // namespace tandem::client
