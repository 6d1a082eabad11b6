#include "client/stream_course.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/error.h"

namespace tandem::client {
namespace {

// Unique beyond doubt: 128 random bits.
std::string RandomKey() {
  std::random_device random;
  std::string key = "stream-";
  for (int i = 0; i < 4; ++i) absl::StrAppendFormat(&key, "%08x", random());
  return key;
}

v1::GenerateRequest WithKey(v1::GenerateRequest request) {
  if (request.idempotency_key().empty()) request.set_idempotency_key(RandomKey());
  return request;
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

StreamCourse::StreamCourse(v1::GenerateRequest request, const GenerateOptions& options, absl::Time now)
    : request_(WithKey(request)),
      options_(options),
      deadline_(now + options.timeout),
      own_key_(request.idempotency_key().empty()),
      ids_(request.resume_token_ids().begin(), request.resume_token_ids().end()),
      result_(absl::FailedPreconditionError("the stream has not ended")) {}

// ---- calls --------------------------------------------------------------------------------------------------------

std::variant<v1::GenerateRequest, v1::ResumeRequest> StreamCourse::NextCall(bool connected) {
  ++attempts_;
  had_ |= connected;
  switch (way_) {
    case Way::kGenerate:
      accepted_.Clear();
      return request_;
    case Way::kResume: {
      v1::ResumeRequest resume;
      if (accepted_.request_id().empty()) {
        resume.set_idempotency_key(Key());
      } else {
        resume.set_request_id(accepted_.request_id());
      }
      resume.set_next_index(static_cast<uint32_t>(ids_.size()));
      resume.set_tenant(request_.tenant());
      return resume;
    }
    case Way::kGoOn:
      break;
  }
  return GoingOn();
}

// Of the request that runs. The key before may name one that still runs somewhere.
std::string StreamCourse::Key() const {
  if (going_on_ == 0) return request_.idempotency_key();
  return absl::StrCat(request_.idempotency_key().substr(0, 112), "+", going_on_);
}

v1::GenerateRequest StreamCourse::GoingOn() const {
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

v1::GenerateResponse AsGenerateResponse(v1::ResumeResponse response) {
  v1::GenerateResponse out;
  switch (response.event_case()) {
    case v1::ResumeResponse::kAccepted:
      *out.mutable_accepted() = std::move(*response.mutable_accepted());
      break;
    case v1::ResumeResponse::kProgress:
      *out.mutable_progress() = std::move(*response.mutable_progress());
      break;
    case v1::ResumeResponse::kChunk:
      *out.mutable_chunk() = std::move(*response.mutable_chunk());
      break;
    case v1::ResumeResponse::kFinished:
      *out.mutable_finished() = std::move(*response.mutable_finished());
      break;
    case v1::ResumeResponse::EVENT_NOT_SET:
      break;
  }
  return out;
}

// ---- answers ------------------------------------------------------------------------------------------------------

absl::StatusOr<bool> StreamCourse::Take(v1::GenerateResponse& message) {
  had_ = true;
  switch (message.event_case()) {
    case v1::GenerateResponse::kAccepted:
      accepted_ = message.accepted();
      return true;
    case v1::GenerateResponse::kProgress:
      if (accepted_.request_id().empty()) accepted_.set_request_id(message.progress().request_id());
      return true;
    case v1::GenerateResponse::kChunk: {
      const auto news = TakeChunk(message.chunk());
      if (!news.ok()) return news;
      broken_at_ = absl::InfiniteFuture();
      tries_ = 0;
      if (*news) delivered_ = true;
      return news;
    }
    case v1::GenerateResponse::kFinished:
      finished_ = std::move(*message.mutable_finished());
      finished_seen_ = true;
      return false;
    case v1::GenerateResponse::EVENT_NOT_SET:
      break;  // a newer scheduler's word; all that this version must know it knows
  }
  return false;
}

// True: the caller has none of it. A chunk is never partly new.
absl::StatusOr<bool> StreamCourse::TakeChunk(const v1::Chunk& chunk) {
  const auto& ids = chunk.token_ids();
  // The end's own text; a stream that broke behind it sends it again.
  if (ids.empty()) return !std::exchange(tail_delivered_, true);
  // Once more, as asked for in GoingOn: its text is with the caller already.
  if (way_ == Way::kGoOn && ids.size() == 1 && !ids_.empty() && chunk.offset() + 1 == ids_.size()) {
    if (ids[0] == ids_.back()) return false;
    return Fault(absl::StrCat("token ", chunk.offset(), " came as ", ids_.back(), " and again as ", ids[0]));
  }
  if (chunk.offset() != ids_.size()) {
    return Fault(absl::StrCat("chunk begins at token ", chunk.offset(), ", expected ", ids_.size(),
                              ": a token was lost or sent twice"));
  }
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  return true;
}

// ---- going on -----------------------------------------------------------------------------------------------------

std::optional<absl::Duration> StreamCourse::CallEnded(absl::Status status, absl::Time now) {
  if (!status.ok()) {
    const auto wait = delivered_ ? TakeUpAgain(status, now) : TryAgain(status, now);
    // An answer that must come too late is worse than the one there is.
    if (wait.has_value() && now + *wait < deadline_) return wait;
  } else if (!finished_seen_) {
    status = Fault("it ended without saying how");
  }
  End(std::move(status));
  return std::nullopt;
}

std::optional<absl::Duration> StreamCourse::TryAgain(const absl::Status& status, absl::Time now) {
  if (!absl::IsUnavailable(status)) return std::nullopt;
  // A scheduler that may have had the request and is away comes back with it; one that was never there may not come.
  const bool away = had_ && Unreachable(status);
  if (away) broken_at_ = std::min(broken_at_, now);
  if (away ? now > broken_at_ + options_.resume_within : attempts_ > options_.retries) return std::nullopt;
  const absl::Duration doubled = options_.first_backoff * static_cast<double>(1u << std::min(attempts_ - 1, 20));
  return std::min(RetryDelay(status).value_or(doubled), away ? absl::Seconds(1) : options_.most_backoff);
}

std::optional<absl::Duration> StreamCourse::TakeUpAgain(const absl::Status& status, absl::Time now) {
  const bool broken = IsBroken(status);
  const bool unknown = ErrorReason(status) == "RESUME_UNKNOWN";
  if (!broken && !unknown && !absl::IsUnavailable(status)) return std::nullopt;
  if (broken_at_ == absl::InfiniteFuture()) {
    if (resumes_ >= options_.resumes) return std::nullopt;
    ++resumes_;
    broken_at_ = now;
    if (options_.on_resume) options_.on_resume(status, ids_.size());
  } else if (now > broken_at_ + options_.resume_within) {
    return std::nullopt;
  }
  if (unknown || !broken) {
    // It is lost, or it failed for a reason that will pass: what is here goes on as another one.
    way_ = Way::kGoOn;
    ++going_on_;
    lost_ = accepted_.request_id();
  } else {
    way_ = accepted_.request_id() == lost_ ? Way::kGoOn : Way::kResume;  // the other one may not have been taken up yet
  }
  if (unknown) return absl::ZeroDuration();
  const absl::Duration doubled = options_.first_backoff / 2 * static_cast<double>(1u << std::min(tries_++, 5));
  return std::min(RetryDelay(status).value_or(doubled), absl::Seconds(1));
}

// ---- the end ------------------------------------------------------------------------------------------------------

void StreamCourse::End(absl::Status status) {
  ended_ = true;
  if (status.ok()) {
    result_ = GenerateResult{accepted_, finished_, attempts_, resumes_};
  } else {
    result_ = std::move(status);
  }
}

std::optional<v1::AbortRequest> StreamCourse::AbortOfWhatIsLeft() const {
  if (!own_key_ || attempts_ == 0) return std::nullopt;
  v1::AbortRequest request;
  request.set_tenant(request_.tenant());
  request.add_idempotency_keys(Key());
  return request;
}

}  // namespace tandem::client
