#include <utility>

#include "client/async_client.h"
#include "client/async_stream_impl.h"
#include "client/channel.h"

namespace tandem::client {
namespace {

// A word to a scheduler that is there takes a millisecond; one that is not there is not waited for.
constexpr absl::Duration kAbortTimeout = absl::Seconds(5);

StreamEvent EventOf(v1::GenerateResponse message) {
  if (message.has_accepted()) return std::move(*message.mutable_accepted());
  if (message.has_progress()) return std::move(*message.mutable_progress());
  return std::move(*message.mutable_chunk());
}

v1::GenerateResponse Uniform(v1::GenerateResponse message) { return message; }
v1::GenerateResponse Uniform(v1::ResumeResponse message) { return AsGenerateResponse(std::move(message)); }

}  // namespace

// One call. It deletes itself when gRPC is done with it.
class AsyncStream::Impl::Attempt {
 public:
  virtual ~Attempt() = default;
  virtual void Read() = 0;
  void TryCancel() { context_.TryCancel(); }
  const SilenceWatch& watch() const { return *watch_; }

 protected:
  explicit Attempt(std::shared_ptr<Impl> stream) : stream_(std::move(stream)) {
    SetDeadline(context_, stream_->course_.deadline());
    AddMetadata(context_, stream_->options_.metadata);
  }
  const std::shared_ptr<Impl> stream_;
  grpc::ClientContext context_;
  const std::shared_ptr<SilenceWatch> watch_ =
      std::make_shared<SilenceWatch>(&context_, stream_->options_.most_silence);
};

template <typename Response>
class AsyncStream::Impl::AttemptOf final : public Attempt, public grpc::ClientReadReactor<Response> {
 public:
  AttemptOf(std::shared_ptr<Impl> stream, const v1::GenerateRequest& request) : Attempt(std::move(stream)) {
    this->stream_->link_->stub->async()->Generate(&this->context_, &request, this);
    Begin();
  }
  AttemptOf(std::shared_ptr<Impl> stream, const v1::ResumeRequest& request) : Attempt(std::move(stream)) {
    this->stream_->link_->stub->async()->Resume(&this->context_, &request, this);
    Begin();
  }

  void Read() override {
    this->watch_->Waits();
    this->StartRead(&response_);
  }

  void OnReadDone(bool ok) override {
    this->watch_->Heard();
    if (!ok) return this->RemoveHold();
    if (this->stream_->OnMessage(Uniform(std::move(response_)))) Read();
  }
  void OnDone(const grpc::Status& status) override {
    this->watch_->End();
    this->stream_->OnCallEnded(status);
    delete this;
  }

 private:
  // The hold keeps the call from being done while nothing of it is being read; the last read gives it back.
  void Begin() {
    this->AddHold();
    Read();
    this->StartCall();
  }

  Response response_;
};

AsyncStream::Impl::Impl(AsyncLink* link, v1::GenerateRequest request, GenerateOptions options,
                        std::function<void(StreamEvent)> handler)
    : link_(link),
      options_(std::move(options)),
      handler_(std::move(handler)),
      course_(std::move(request), options_, absl::Now()) {}

void AsyncStream::Impl::Next() {
  absl::MutexLock lock(&mu_);
  if (cancelled_ || !idle_ || course_.ended()) return;
  idle_ = false;
  if (attempt_ == nullptr) return Open();
  attempt_->Read();
}

void AsyncStream::Impl::Open() {
  const auto call = course_.NextCall(IsConnected(*link_->channel));
  if (const auto* generate = std::get_if<v1::GenerateRequest>(&call)) {
    attempt_ = new AttemptOf<v1::GenerateResponse>(shared_from_this(), *generate);
  } else {
    attempt_ = new AttemptOf<v1::ResumeResponse>(shared_from_this(), std::get<v1::ResumeRequest>(call));
  }
}

bool AsyncStream::Impl::OnMessage(v1::GenerateResponse message) {
  {
    absl::MutexLock lock(&mu_);
    if (cancelled_ || !fault_.ok()) return true;  // to the end of what was sent; nobody looks at it
    const auto news = course_.Take(message);
    if (!news.ok()) {
      fault_ = news.status();
      attempt_->TryCancel();
      return true;
    }
    if (!*news) return true;
    idle_ = true;
  }
  handler_(EventOf(std::move(message)));
  return false;
}

void AsyncStream::Impl::OnCallEnded(const grpc::Status& grpc_status) {
  absl::StatusOr<GenerateResult> result;
  {
    absl::MutexLock lock(&mu_);
    absl::Status status = attempt_->watch().Explain(FromGrpc(grpc_status));
    attempt_ = nullptr;
    if (cancelled_ && !status.ok()) {
      course_.End(std::move(status));
      return AbortWhatIsLeft();
    }
    if (!fault_.ok()) {
      course_.End(fault_);
      AbortWhatIsLeft();
    } else if (const auto wait = course_.CallEnded(std::move(status), absl::Now())) {
      alarm_ = std::make_unique<grpc::Alarm>();
      return alarm_->Set(absl::ToChronoTime(absl::Now() + *wait),
                         [self = shared_from_this()](bool) { self->OnWaited(); });
    }
    if (cancelled_) return;
    result = course_.result();
  }
  handler_(std::move(result));
}

void AsyncStream::Impl::OnWaited() {
  std::unique_ptr<grpc::Alarm> done;  // it holds this stream, and is not needed any more
  absl::MutexLock lock(&mu_);
  done = std::move(alarm_);
  if (!cancelled_) return Open();
  course_.End(absl::CancelledError("cancelled"));
  AbortWhatIsLeft();
}

void AsyncStream::Impl::Cancel() {
  absl::MutexLock lock(&mu_);
  if (std::exchange(cancelled_, true)) return;
  if (attempt_ != nullptr) {
    attempt_->TryCancel();
    if (idle_) attempt_->Read();
    idle_ = false;
  } else if (alarm_ != nullptr) {
    alarm_->Cancel();
  }
}

// A request with a key outlives its stream, so that a broken one can be taken up again. Nobody will.
void AsyncStream::Impl::AbortWhatIsLeft() {
  struct Call {
    explicit Call(AsyncLink* l) : link(l) {}
    const CallToken link;
    grpc::ClientContext context;
    v1::AbortRequest request;
    v1::AbortResponse response;
  };
  auto request = course_.AbortOfWhatIsLeft();
  if (!request.has_value()) return;
  auto call = std::make_shared<Call>(link_.get());
  call->request = *std::move(request);
  SetDeadline(call->context, absl::Now() + kAbortTimeout);
  link_->stub->async()->Abort(&call->context, &call->request, &call->response, [call](const grpc::Status&) {});
}

AsyncStream::AsyncStream(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
AsyncStream::AsyncStream(AsyncStream&&) noexcept = default;
AsyncStream& AsyncStream::operator=(AsyncStream&& other) noexcept {
  if (impl_ != nullptr && impl_ != other.impl_) impl_->Cancel();
  impl_ = std::move(other.impl_);
  return *this;
}
AsyncStream::~AsyncStream() {
  if (impl_ != nullptr) impl_->Cancel();
}

void AsyncStream::Next() { impl_->Next(); }
void AsyncStream::Cancel() { impl_->Cancel(); }

}  // namespace tandem::client
