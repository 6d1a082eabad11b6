#include "client/token_stream.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/channel.h"
#include "client/error.h"
#include "client/token_stream_impl.h"

namespace tandem::client {
namespace {

// A word to a scheduler that is there takes a millisecond; one that is not there is not waited for.
constexpr absl::Duration kAbortTimeout = absl::Seconds(1);

// Unique beyond doubt: 128 random bits.
std::string RandomKey() {
  std::random_device random;
  std::string key = "stream-";
  for (int i = 0; i < 4; ++i) absl::StrAppendFormat(&key, "%08x", random());
  return key;
}

// The stream broke under us: nobody said that the request has failed.
bool IsBroken(const absl::Status& status) {
  if (!ErrorReason(status).empty()) return ErrorReason(status) == "DRAINING";  // what runs is not lost by a shutdown
  return absl::IsUnavailable(status) || absl::IsInternal(status) || absl::IsUnknown(status) ||
         absl::IsCancelled(status);
}

absl::Status Fault(absl::string_view what) {
  return absl::InternalError(absl::StrCat("the scheduler's answer is not whole: ", what));
}

}  // namespace

TokenStream::Impl::Impl(std::shared_ptr<v1::InferenceService::Stub> stub, v1::GenerateRequest request,
                        GenerateOptions options)
    : stub_(std::move(stub)),
      request_(std::move(request)),
      options_(std::move(options)),
      deadline_(absl::Now() + options_.timeout),
      own_key_(request_.idempotency_key().empty()),
      ids_(request_.resume_token_ids().begin(), request_.resume_token_ids().end()),
      result_(absl::FailedPreconditionError("the stream has not ended")) {
  if (own_key_) request_.set_idempotency_key(RandomKey());
}

TokenStream::Impl::~Impl() {
  Cancel();
  if (generating_ || resuming_) CloseAttempt().IgnoreError();
  if (!ended_) AbortIfLeft();
}

std::optional<v1::Chunk> TokenStream::Impl::Next() {
  while (!ended_) {
    if (!generating_ && !resuming_ && !Open()) {
      End(absl::CancelledError("cancelled"));
      break;
    }
    v1::GenerateResponse response;
    if (!Read(&response)) {
      absl::Status status = CloseAttempt();
      if (!status.ok() && GoOnAfter(status)) continue;
      if (status.ok() && !finished_seen_) status = Fault("it ended without saying how");
      End(std::move(status));
      break;
    }
    heard_ = true;
    switch (response.event_case()) {
      case v1::GenerateResponse::kAccepted:
        accepted_ = std::move(*response.mutable_accepted());
        break;
      case v1::GenerateResponse::kProgress:
        if (accepted_.request_id().empty()) accepted_.set_request_id(response.progress().request_id());
        if (options_.on_progress) options_.on_progress(response.progress());
        break;
      case v1::GenerateResponse::kChunk: {
        auto chunk = TakeChunk(std::move(*response.mutable_chunk()));
        if (!chunk.ok()) {
          Cancel();
          CloseAttempt().IgnoreError();
          End(chunk.status());
          return std::nullopt;
        }
        broken_at_ = absl::InfiniteFuture();
        tries_ = 0;
        if (!chunk->has_value()) break;
        delivered_ = true;
        return **std::move(chunk);
      }
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

// ---- calls --------------------------------------------------------------------------------------------------------

bool TokenStream::Impl::Open() {
  absl::MutexLock lock(&mu_);
  if (cancelled_) return false;
  context_ = std::make_unique<grpc::ClientContext>();
  SetDeadline(*context_, deadline_);
  ++attempts_;
  switch (way_) {
    case Way::kGenerate:
      accepted_.Clear();
      generating_ = stub_->Generate(context_.get(), request_);
      break;
    case Way::kResume: {
      v1::ResumeRequest resume;
      if (accepted_.request_id().empty()) {
        resume.set_idempotency_key(Key());
      } else {
        resume.set_request_id(accepted_.request_id());
      }
      resume.set_next_index(static_cast<uint32_t>(ids_.size()));
      resume.set_tenant(request_.tenant());
      resuming_ = stub_->Resume(context_.get(), resume);
      break;
    }
    case Way::kGoOn:
      generating_ = stub_->Generate(context_.get(), GoingOn());
      break;
  }
  return true;
}

// Of the request that runs. The key before may name one that still runs somewhere.
std::string TokenStream::Impl::Key() const {
  if (going_on_ == 0) return request_.idempotency_key();
  return absl::StrCat(request_.idempotency_key().substr(0, 112), "+", going_on_);
}

v1::GenerateRequest TokenStream::Impl::GoingOn() const {
  v1::GenerateRequest request = request_;
  request.set_idempotency_key(Key());
  if (!accepted_.request_id().empty()) request.mutable_sampling()->set_seed(accepted_.seed());
  request.mutable_resume_token_ids()->Assign(ids_.begin(), ids_.end());
  // All that was asked for is here, but not how it ended: the last token is computed once more.
  const auto& stopping = request.stopping();
  if (stopping.has_max_tokens() && ids_.size() >= stopping.max_tokens()) {
    request.mutable_resume_token_ids()->Truncate(static_cast<int>(stopping.max_tokens()) - 1);
  }
  return request;
}

bool TokenStream::Impl::Read(v1::GenerateResponse* out) {
  if (generating_) return generating_->Read(out);
  v1::ResumeResponse response;
  if (!resuming_->Read(&response)) return false;
  switch (response.event_case()) {
    case v1::ResumeResponse::kAccepted:
      *out->mutable_accepted() = std::move(*response.mutable_accepted());
      break;
    case v1::ResumeResponse::kProgress:
      *out->mutable_progress() = std::move(*response.mutable_progress());
      break;
    case v1::ResumeResponse::kChunk:
      *out->mutable_chunk() = std::move(*response.mutable_chunk());
      break;
    case v1::ResumeResponse::kFinished:
      *out->mutable_finished() = std::move(*response.mutable_finished());
      break;
    case v1::ResumeResponse::EVENT_NOT_SET:
      break;
  }
  return true;
}

absl::Status TokenStream::Impl::CloseAttempt() {
  const absl::Status status = FromGrpc(generating_ ? generating_->Finish() : resuming_->Finish());
  generating_.reset();
  resuming_.reset();
  absl::MutexLock lock(&mu_);
  context_.reset();
  return status;
}

// ---- going on -----------------------------------------------------------------------------------------------------

bool TokenStream::Impl::GoOnAfter(const absl::Status& status) {
  {
    absl::MutexLock lock(&mu_);
    if (cancelled_) return false;
  }
  return delivered_ ? TakeUpAgain(status) : TryAgain(status);
}

bool TokenStream::Impl::TryAgain(const absl::Status& status) {
  if (!absl::IsUnavailable(status)) return false;
  // A scheduler that has had the request and is away comes back with it; one that was never there may not come.
  const bool away = heard_ && Unreachable(status);
  if (away) broken_at_ = std::min(broken_at_, absl::Now());
  if (away ? absl::Now() > broken_at_ + options_.resume_within : attempts_ > options_.retries) return false;
  const absl::Duration doubled = options_.first_backoff * static_cast<double>(1u << std::min(attempts_ - 1, 20));
  return WaitFor(std::min(RetryDelay(status).value_or(doubled), away ? absl::Seconds(1) : options_.most_backoff));
}

bool TokenStream::Impl::TakeUpAgain(const absl::Status& status) {
  const bool broken = IsBroken(status);
  const bool unknown = ErrorReason(status) == "RESUME_UNKNOWN";
  if (!broken && !unknown && !absl::IsUnavailable(status)) return false;
  if (broken_at_ == absl::InfiniteFuture()) {
    if (resumes_ >= options_.resumes) return false;
    ++resumes_;
    broken_at_ = absl::Now();
    if (options_.on_resume) options_.on_resume(status, ids_.size());
  } else if (absl::Now() > broken_at_ + options_.resume_within) {
    return false;
  }
  if (unknown ||
      !broken) {  // it is lost, or it failed for a reason that will pass: what is here goes on as another one
    way_ = Way::kGoOn;
    ++going_on_;
    lost_ = accepted_.request_id();
  } else {
    way_ = accepted_.request_id() == lost_ ? Way::kGoOn : Way::kResume;  // the other one may not have been taken up yet
  }
  if (unknown) return WaitFor(absl::ZeroDuration());
  const absl::Duration doubled = options_.first_backoff / 2 * static_cast<double>(1u << std::min(tries_++, 5));
  return WaitFor(std::min(RetryDelay(status).value_or(doubled), absl::Seconds(1)));
}

bool TokenStream::Impl::WaitFor(absl::Duration wait) {
  // An answer that must come too late is worse than the one there is.
  if (absl::Now() + wait >= deadline_) return false;
  absl::MutexLock lock(&mu_);
  mu_.AwaitWithTimeout(absl::Condition(&cancelled_), wait);
  return true;  // cancelled or not: Open() looks
}

absl::StatusOr<std::optional<v1::Chunk>> TokenStream::Impl::TakeChunk(v1::Chunk chunk) {
  const auto& ids = chunk.token_ids();
  if (ids.empty()) {  // the end's own text; a stream that broke behind it sends it again
    if (std::exchange(tail_delivered_, true)) return std::nullopt;
    return chunk;
  }
  // Once more, as asked for in GoingOn: its text is with the caller already.
  if (way_ == Way::kGoOn && ids.size() == 1 && !ids_.empty() && chunk.offset() + 1 == ids_.size()) {
    if (ids[0] == ids_.back()) return std::nullopt;
    return Fault(absl::StrCat("token ", chunk.offset(), " came as ", ids_.back(), " and again as ", ids[0]));
  }
  if (chunk.offset() != ids_.size()) {
    return Fault(absl::StrCat("chunk begins at token ", chunk.offset(), ", expected ", ids_.size(),
                              ": a token was lost or sent twice"));
  }
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  return chunk;
}

// ---- the end ------------------------------------------------------------------------------------------------------

// A request with a key outlives its stream, so that a broken one can be taken up again. Nobody will.
void TokenStream::Impl::AbortIfLeft() {
  {
    absl::MutexLock lock(&mu_);
    if (!cancelled_ || !own_key_ || attempts_ == 0) return;
  }
  grpc::ClientContext context;
  SetDeadline(context, absl::Now() + kAbortTimeout);
  v1::AbortRequest request;
  v1::AbortResponse response;
  request.set_tenant(request_.tenant());
  request.add_idempotency_keys(Key());
  stub_->Abort(&context, request, &response);
}

void TokenStream::Impl::End(absl::Status status) {
  ended_ = true;
  if (!status.ok()) AbortIfLeft();
  if (status.ok()) {
    result_ = GenerateResult{accepted_, finished_, attempts_, resumes_};
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
