#include "scheduler/worker_service.h"

#include <glog/logging.h>

#include <algorithm>
#include <deque>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/clock.h"
#include "scheduler/translate.h"

namespace tandem::scheduler {
namespace {

// The protocol of worker.proto that this build speaks.
constexpr uint32_t kProtocol = 1;

// A worker that reads takes commands in microseconds. The bytes are those of a few prompts of the largest size.
constexpr size_t kMostOutbound = 8192;
constexpr size_t kMostHealthText = 256;
constexpr size_t kMostOutboundBytes = 256 << 20;

grpc::Status ToGrpcStatus(const absl::Status& status) {
  const absl::string_view message = status.message();
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(message));
}

}  // namespace

// Owns itself: gRPC holds it until OnDone, the registry until the stream ends.
class WorkerService::AttachReactor final : public grpc::ServerBidiReactor<v1::AttachRequest, v1::AttachResponse>,
                                           public WorkerLink {
 public:
  static AttachReactor* Start(WorkerService* service) {
    auto reactor = std::make_shared<AttachReactor>(service);
    reactor->self_ = reactor;
    reactor->StartRead(&reactor->inbound_);
    return reactor.get();
  }
  explicit AttachReactor(WorkerService* service) : service_(service) {}

  // ---- WorkerLink
  void Send(v1::AttachResponse command) override {
    bool overflow = false;
    {
      absl::MutexLock lock(&mu_);
      if (closing_ || finished_) return;
      const size_t bytes = command.ByteSizeLong();
      overflow = outbound_.size() >= kMostOutbound || outbound_bytes_ + bytes > kMostOutboundBytes;
      if (!overflow) {
        outbound_bytes_ += bytes;
        outbound_.push_back(std::move(command));
        if (writing_) return;
        writing_ = true;
      }
    }
    if (overflow) {
      Close(absl::ResourceExhaustedError("the worker does not read its commands; attach again"));
    } else {
      WriteFront();
    }
  }

  void Admit(core::DeviceId device) override {
    device_ = device;
    v1::AttachResponse response;
    auto& welcome = *response.mutable_welcome();
    welcome.set_protocol(kProtocol);
    welcome.set_leader_epoch(service_->terms_.leader_epoch);
    welcome.set_device_name(absl::StrCat("nodes/", hello_.device().node(), "/devices/", hello_.device().index()));
    welcome.set_heartbeat_ms(service_->terms_.heartbeat_ms);
    welcome.set_orphan_grace_ms(service_->terms_.orphan_grace_ms);
    welcome.set_retention_ms(service_->terms_.retention_ms);
    Send(std::move(response));
    absl::MutexLock lock(&mu_);
    if (!closing_ && !finished_) StartRead(&inbound_);  // never after Finish
  }

  void Close(const absl::Status& why) override {
    {
      absl::MutexLock lock(&mu_);
      if (closing_ || finished_) return;
      closing_ = ToGrpcStatus(why);
      if (writing_) return;  // OnWriteDone finishes
      finished_ = true;
    }
    Finish(*closing_);
  }

  core::Incarnation incarnation() const override { return incarnation_; }
  const v1::Hello& hello() const override { return hello_; }

  // ---- reactions
  void OnReadDone(bool ok) override {
    if (!ok) {
      Close(absl::OkStatus());
      return;
    }
    if (!entered_) {
      OnHello();
    } else {
      OnMessage();
    }
  }

  void OnWriteDone(bool ok) override {
    bool finish = false;
    {
      absl::MutexLock lock(&mu_);
      outbound_bytes_ -= outbound_.front().ByteSizeLong();
      outbound_.pop_front();
      if (!ok && !closing_) closing_ = grpc::Status(grpc::StatusCode::UNAVAILABLE, "the stream broke");
      if (closing_) {
        writing_ = false;
        finish = !std::exchange(finished_, true);
      } else {
        writing_ = !outbound_.empty();
        if (!writing_) return;
      }
    }
    if (finish) {
      Finish(*closing_);
    } else {
      WriteFront();
    }
  }

  void OnCancel() override { Close(absl::CancelledError("the stream broke")); }

  void OnDone() override {
    std::optional<core::DeviceId> device;
    if (entered_ && service_->registry_->Leave(*this, &device) && device) {
      service_->doors_.post_owed(
          core::WorkerDetached{*device, incarnation_, leaving_, leaving_ ? leaving_why_ : "its stream ended"});
    }
    self_.reset();
  }

 private:
  void WriteFront() {
    // Only the holder of `writing_` comes here, and a deque does not move its front when it grows.
    const v1::AttachResponse* front;
    grpc::WriteOptions options;
    {
      absl::MutexLock lock(&mu_);
      front = &outbound_.front();
      if (outbound_.size() > 1) options.set_buffer_hint();  // the next one follows at once: one system call for both
    }
    StartWrite(front, options);
  }

  void OnHello() {
    if (!inbound_.has_hello()) {
      Close(absl::InvalidArgumentError("the first message on Attach must be Hello"));
      return;
    }
    hello_ = inbound_.hello();
    if (hello_.protocol_min() > kProtocol || hello_.protocol_max() < kProtocol) {
      Close(absl::FailedPreconditionError(absl::StrFormat(
          "this worker (build %s) speaks protocol %d to %d, this scheduler %d; run the same version of both",
          hello_.build(), hello_.protocol_min(), hello_.protocol_max(), kProtocol)));
      return;
    }
    auto event = WorkerAttachedFrom(hello_);
    if (!event.ok()) {
      Close(event.status());
      return;
    }
    if (hello_.highest_leader_epoch() > service_->terms_.leader_epoch) {
      Close(absl::FailedPreconditionError(absl::StrFormat(
          "this worker obeyed leader epoch %d, this scheduler has %d: it lost its state folder, or an older one runs "
          "beside the right one; restart the worker to follow this one",
          hello_.highest_leader_epoch(), service_->terms_.leader_epoch)));
      return;
    }
    incarnation_ = event->incarnation;
    entered_ = true;
    service_->registry_->Enter(self_);
    service_->reattachment_->OnHello(hello_);
    if (!service_->doors_.try_post(*std::move(event))) {
      Close(absl::UnavailableError("the scheduler is behind; attach again"));
    }
  }

  void OnMessage() {
    switch (inbound_.event_case()) {
      case v1::AttachRequest::kDeviceHealth: {
        v1::DeviceHealth& health = *inbound_.mutable_device_health();
        for (std::string* text : {health.mutable_code(), health.mutable_message()}) {
          text->resize(std::min(text->size(), kMostHealthText));
          std::replace_if(text->begin(), text->end(), absl::ascii_iscntrl, ' ');
        }
        const std::string name = absl::StrCat("nodes/", hello_.device().node(), "/devices/", hello_.device().index());
        LOG(WARNING) << name << ": " << health.code() << (health.cleared() ? " is over" : ": ") << health.message();
        core::HealthReported event{device_,          incarnation_,     health.code(),
                                   health.message(), health.lasting(), health.cleared()};
        if (!service_->doors_.try_post(std::move(event))) {
          // What lasts is said again with the next stream; what only happened, the log above has.
          Close(absl::UnavailableError("the scheduler is behind; attach again"));
          return;
        }
        break;
      }
      case v1::AttachRequest::kLeaving:
        leaving_ = true;
        leaving_why_ = inbound_.leaving().reason();
        break;
      default: {
        auto event = EventFrom(inbound_, device_, incarnation_);
        if (!event.ok()) {
          Close(event.status());
          return;
        }
        if (event->has_value() && !service_->doors_.try_post(*std::move(*event))) {
          Close(absl::UnavailableError("the scheduler is behind; attach again"));
          return;
        }
      }
    }
    StartRead(&inbound_);
  }

  WorkerService* const service_;
  std::shared_ptr<AttachReactor> self_;

  // Of the reading thread; fixed once the registry knows this link.
  v1::AttachRequest inbound_;
  v1::Hello hello_;
  core::Incarnation incarnation_;
  core::DeviceId device_;
  bool entered_ = false;
  bool leaving_ = false;
  std::string leaving_why_;

  absl::Mutex mu_;
  std::deque<v1::AttachResponse> outbound_ ABSL_GUARDED_BY(mu_);  // the front is under way while `writing_`
  size_t outbound_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<grpc::Status> closing_;  // set once under mu_, read by whoever set finished_
};

class WorkerService::TokensReactor final : public grpc::ServerReadReactor<v1::TokensRequest> {
 public:
  explicit TokensReactor(TokenRouter* router) : router_(router) { StartRead(&inbound_); }

  void OnReadDone(bool ok) override {
    if (!ok) {
      Finish(grpc::Status::OK);
      return;
    }
    router_->Route(inbound_);
    StartRead(&inbound_);
  }
  void OnDone() override { delete this; }

 private:
  TokenRouter* const router_;
  v1::TokensRequest inbound_;  // used again and again: its buffers stay
};

WorkerService::WorkerService(WelcomeTerms terms, Doors doors, WorkerRegistry* registry, TokenRouter* router,
                             Reattachment* reattachment)
    : terms_(terms), doors_(std::move(doors)), registry_(registry), router_(router), reattachment_(reattachment) {}

grpc::ServerBidiReactor<v1::AttachRequest, v1::AttachResponse>* WorkerService::Attach(grpc::CallbackServerContext*) {
  return AttachReactor::Start(this);
}

grpc::ServerReadReactor<v1::TokensRequest>* WorkerService::Tokens(grpc::CallbackServerContext*, v1::TokensResponse*) {
  return new TokensReactor(router_);
}

}  // namespace tandem::scheduler
