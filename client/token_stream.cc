#include "client/token_stream.h"

#include <utility>

#include "client/channel.h"
#include "client/token_stream_impl.h"

namespace tandem::client {
namespace {

// A word to a scheduler that is there takes a millisecond; one that is not there is not waited for.
constexpr absl::Duration kAbortTimeout = absl::Seconds(5);

}  // namespace

TokenStream::Impl::Impl(std::shared_ptr<grpc::Channel> channel, std::shared_ptr<v1::InferenceService::Stub> stub,
                        v1::GenerateRequest request, GenerateOptions options)
    : channel_(std::move(channel)),
      stub_(std::move(stub)),
      options_(std::move(options)),
      course_(std::move(request), options_, absl::Now()) {}

TokenStream::Impl::~Impl() {
  Cancel();
  if (generating_ || resuming_) CloseCall().IgnoreError();
  if (!course_.ended()) AbortIfLeft();
}

std::optional<v1::Chunk> TokenStream::Impl::Next() {
  while (!course_.ended()) {
    if (!generating_ && !resuming_ && !Open()) {
      course_.End(absl::CancelledError("cancelled"));
      AbortIfLeft();
      break;
    }
    v1::GenerateResponse response;
    if (!Read(&response)) {
      if (!GoOnAfter(CloseCall())) break;
      continue;
    }
    const auto news = course_.Take(response);
    if (!news.ok()) {
      Cancel();
      CloseCall().IgnoreError();
      course_.End(news.status());
      AbortIfLeft();
      break;
    }
    if (!*news) continue;
    if (response.has_progress() && options_.on_progress) options_.on_progress(response.progress());
    if (response.has_chunk()) return std::move(*response.mutable_chunk());
  }
  return std::nullopt;
}

bool TokenStream::Impl::Open() {
  absl::MutexLock lock(&mu_);
  if (cancelled_) return false;
  context_ = std::make_unique<grpc::ClientContext>();
  SetDeadline(*context_, course_.deadline());
  AddMetadata(*context_, options_.metadata);
  watch_ = std::make_shared<SilenceWatch>(context_.get(), options_.most_silence);
  const auto call = course_.NextCall(IsConnected(*channel_));
  if (const auto* generate = std::get_if<v1::GenerateRequest>(&call)) {
    generating_ = stub_->Generate(context_.get(), *generate);
  } else {
    resuming_ = stub_->Resume(context_.get(), std::get<v1::ResumeRequest>(call));
  }
  return true;
}

bool TokenStream::Impl::Read(v1::GenerateResponse* out) {
  v1::ResumeResponse resumed;
  watch_->Waits();
  const bool read = generating_ ? generating_->Read(out) : resuming_->Read(&resumed);
  watch_->Heard();
  if (read && resuming_) *out = AsGenerateResponse(std::move(resumed));
  return read;
}

absl::Status TokenStream::Impl::CloseCall() {
  const absl::Status status = watch_->Explain(FromGrpc(generating_ ? generating_->Finish() : resuming_->Finish()));
  watch_->End();
  generating_.reset();
  resuming_.reset();
  absl::MutexLock lock(&mu_);
  context_.reset();
  return status;
}

bool TokenStream::Impl::GoOnAfter(absl::Status status) {
  std::optional<absl::Duration> wait;
  if (!status.ok() && Cancelled()) {
    course_.End(absl::CancelledError("cancelled"));  // whatever the call said as it was let go
  } else {
    wait = course_.CallEnded(std::move(status), absl::Now());
  }
  if (!wait.has_value()) {
    if (!course_.result().ok()) AbortIfLeft();
    return false;
  }
  absl::MutexLock lock(&mu_);
  const SteadyTime until = SteadyDeadline(*wait);
  while (!cancelled_ && !cancelled_now_.WaitUntil(&mu_, until)) {
  }
  return true;  // cancelled or not: Open() looks
}

bool TokenStream::Impl::Cancelled() {
  absl::MutexLock lock(&mu_);
  return cancelled_;
}

// A request with a key outlives its stream, so that a broken one can be taken up again. Nobody will.
void TokenStream::Impl::AbortIfLeft() {
  const auto request = course_.AbortOfWhatIsLeft();
  if (!request.has_value() || !Cancelled()) return;
  grpc::ClientContext context;
  SetDeadline(context, absl::Now() + kAbortTimeout);
  v1::AbortResponse response;
  stub_->Abort(&context, *request, &response);
}

void TokenStream::Impl::Cancel() {
  absl::MutexLock lock(&mu_);
  cancelled_ = true;
  cancelled_now_.SignalAll();
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
