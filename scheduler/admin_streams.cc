// The calls of AdminService that stream: drains, and the event log.
#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/admin_service.h"
#include "scheduler/clock.h"
#include "scheduler/core/drain_preview.h"
#include "scheduler/core/words.h"
#include "scheduler/mutation.h"
#include "scheduler/name_resolver.h"
#include "scheduler/row_messages.h"
#include "scheduler/translate.h"

namespace tandem::scheduler {
namespace {

// The reports of one drain are a few a second; a caller that does not read them needs the latest only.
constexpr size_t kMostReportsHeld = 64;

v1::DrainProgress ShapeOf(const core::ClusterState& state, const core::DrainPreview& preview) {
  v1::DrainProgress shape;
  for (core::DeviceId id : preview.devices) shape.add_devices(state.At(id).spec.Name());
  for (core::GroupId id : preview.groups) shape.add_groups(core::Name(id));
  for (const core::ModelEffect& effect : preview.models) shape.add_models_affected(core::Words(state, effect));
  return shape;
}

}  // namespace

// One Drain* call: it follows an operation (operations.h) that it opened, or that a call with its key opened before it.
// Leaving it does not undo the drain.
template <typename Response>
class DrainCall final : public grpc::ServerWriteReactor<Response>,
                        public std::enable_shared_from_this<DrainCall<Response>> {
 public:
  using Resolve = std::function<std::optional<Error>(const core::ClusterState&, core::DrainRequested*)>;
  struct Wish {
    v1::Mutation mutation;
    core::Duration deadline;
    core::OnDeadline on_deadline = core::OnDeadline::kMigrate;
    bool force = false;
  };

  explicit DrainCall(const AdminService::Parts& parts) : parts_(parts) {}

  template <typename Request>
  static DrainCall* Start(const AdminService::Parts& parts, const Request& request, Resolve resolve) {
    auto call = std::make_shared<DrainCall>(parts);
    call->self_ = call;
    call->Begin(request, std::move(resolve));
    return call.get();
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) ended_ = grpc::Status(grpc::StatusCode::CANCELLED, "the caller left");
    Pump();
  }
  void OnCancel() override {
    absl::MutexLock lock(&mu_);
    ended_ = grpc::Status(grpc::StatusCode::CANCELLED, "the caller left");
    Pump();
  }
  void OnDone() override {
    core::OperationId operation;
    Operations::SinkId sink;
    {
      absl::MutexLock lock(&mu_);
      operation = operation_;
      sink = std::exchange(sink_, 0);
    }
    if (sink != 0) parts_.operations->Leave(operation, sink);
    auto self = std::move(self_);
  }

 private:
  template <typename Request>
  void Begin(const Request& request, Resolve resolve) {
    if (const auto error = CheckMutation(request.mutation())) return EndWith(ToGrpc(*error));
    if (request.mutation().reason().empty()) {
      return EndWith(
          ToGrpc({kInvalidParameter, "a drain needs a reason in mutation.reason", {}, {{"field", "mutation.reason"}}}));
    }
    Wish wish{request.mutation(),
              core::Milliseconds(
                  static_cast<int64_t>(std::min<uint64_t>(request.deadline_ms(), uint64_t{30} * 24 * 3600 * 1000))),
              core::OnDeadline::kMigrate, request.force()};
    switch (request.on_deadline()) {
      case v1::WAIT:
        wish.on_deadline = core::OnDeadline::kWait;
        break;
      case v1::ABORT:
        wish.on_deadline = core::OnDeadline::kAbort;
        break;
      case v1::ON_DEADLINE_UNSPECIFIED:
      case v1::MIGRATE:
        break;
      default:
        return EndWith(ToGrpc({kInvalidParameter,
                               absl::StrCat("on_deadline is ", request.on_deadline(), "; say MIGRATE, ABORT or WAIT"),
                               {},
                               {{"field", "on_deadline"}}}));
    }
    if (!wish.mutation.validate_only() && !Open(wish.mutation.idempotency_key(), RequestHash(request))) return;
    auto self = this->shared_from_this();
    const bool asked =
        parts_.core->PostQuery([self, wish = std::move(wish), resolve = std::move(resolve)](const core::Core& core) {
          self->Decide(core.state(), wish, resolve);
        });
    if (!asked) Refuse(ToGrpc({kQueueFull, "the scheduler is behind; try again"}));
  }

  // True: this call is the first of its operation and has it carried out. It hears how that goes as any other does.
  bool Open(const std::string& key, const std::string& request) {
    const auto opened = parts_.operations->Open("drain", key, request);
    if (opened.how == Operations::Opened::How::kOtherRequest) {
      EndWith(ToGrpc(OtherRequestWithKey(key)));
      return false;
    }
    {
      absl::MutexLock lock(&mu_);
      operation_ = opened.id;
      for (const std::string& name : opened.devices) shape_.add_devices(name);
    }
    const auto sink = parts_.operations->Follow(
        opened.id, [self = this->shared_from_this()](const core::ReportDrain& report, const grpc::Status& outcome) {
          if (outcome.ok()) {
            self->Hear(report);
          } else {
            self->EndWith(outcome);
          }
        });
    bool left;
    {
      absl::MutexLock lock(&mu_);
      left = finished_;
      if (!left) sink_ = sink;
    }
    if (left) parts_.operations->Leave(opened.id, sink);
    return opened.how == Operations::Opened::How::kFresh;
  }

  // Before anything was done.
  void Refuse(const grpc::Status& why) {
    core::OperationId operation;
    {
      absl::MutexLock lock(&mu_);
      operation = operation_;
    }
    if (operation.value == 0) return EndWith(why);
    parts_.operations->Withdraw(operation, why);  // which tells all that follow it, this call too
  }

  // On the core's thread.
  void Decide(const core::ClusterState& state, const Wish& wish, const Resolve& resolve) {
    core::DrainRequested event;
    if (const auto error = resolve(state, &event)) return Refuse(ToGrpc(*error));
    event.reason = wish.mutation.reason();
    event.deadline = wish.deadline.us > 0 ? wish.deadline : state.options.drain_deadline;
    event.on_deadline = wish.on_deadline;
    event.force = wish.force;
    const core::DrainPreview preview = core::PreviewDrain(state, event);
    {
      absl::MutexLock lock(&mu_);
      shape_ = ShapeOf(state, preview);
    }
    if (wish.mutation.validate_only()) {
      if (preview.refused != core::Reason::kNone) return EndWith(ToGrpc({KindOf(preview.refused), preview.why}));
      core::ReportDrain report;
      report.message = "checked; nothing was changed";
      report.requests_left = preview.requests;
      report.deadline_left = event.deadline;
      report.done = true;
      return Hear(report);
    }
    {
      absl::MutexLock lock(&mu_);
      event.operation = operation_;
    }
    WriteDown(state, std::move(event));
  }

  // On disk first, then to the core: an operation that was acknowledged survives the scheduler.
  void WriteDown(const core::ClusterState& state, core::DrainRequested event) {
    store::Operation row;
    for (core::DeviceId id : event.devices) row.devices.push_back(state.At(id).spec.Name());
    if (event.group) row.group = event.group->value;
    row.reason = event.reason;
    row.on_deadline = OnDeadlineWord(event.on_deadline);
    row.force = event.force;
    row.asked_us = absl::ToUnixMicros(absl::Now());
    row.deadline_us = row.asked_us + event.deadline.us;
    store::Batch batch;
    batch.operations.push_back(parts_.operations->Describe(event.operation, std::move(row)));
    const bool taken =
        parts_.store->Submit(std::move(batch), [parts = parts_, event = std::move(event)](const absl::Status& status) {
          if (status.ok()) return parts.core->PostOwed(event);
          parts.operations->Withdraw(event.operation, ToGrpc(StoreUnavailable(status)));
        });
    if (!taken) Refuse(ToGrpc({kQueueFull, "too many operations wait for the disk; try again"}));
  }

  void Hear(const core::ReportDrain& report) {
    absl::MutexLock lock(&mu_);
    if (reports_.size() >= kMostReportsHeld) reports_.pop_front();
    v1::DrainProgress progress = shape_;
    progress.set_message(report.message);
    progress.set_requests_left(report.requests_left);
    progress.set_deadline_left_ms(ToMilliseconds(report.deadline_left));
    progress.set_overdue(report.overdue);
    progress.set_done(report.done);
    reports_.push_back(std::move(progress));
    if (report.done && !ended_) done_ = true;
    Pump();
  }

  void EndWith(const grpc::Status& status) {
    absl::MutexLock lock(&mu_);
    ended_ = status;
    Pump();
  }

  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (writing_ || finished_) return;
    if (!ended_ && !reports_.empty()) {
      *response_.mutable_progress() = std::move(reports_.front());
      reports_.pop_front();
      writing_ = true;
      this->StartWrite(&response_);
      return;
    }
    if (!ended_ && done_) ended_ = grpc::Status::OK;
    if (!ended_) return;
    finished_ = true;
    this->Finish(*ended_);
  }

  const AdminService::Parts parts_;
  std::shared_ptr<DrainCall> self_;

  absl::Mutex mu_;
  core::OperationId operation_ ABSL_GUARDED_BY(mu_);  // set before the core hears of the drain
  Operations::SinkId sink_ ABSL_GUARDED_BY(mu_) = 0;
  v1::DrainProgress shape_ ABSL_GUARDED_BY(mu_);  // set before the core hears of the drain
  std::deque<v1::DrainProgress> reports_ ABSL_GUARDED_BY(mu_);
  Response response_ ABSL_GUARDED_BY(mu_);
  std::optional<grpc::Status> ended_ ABSL_GUARDED_BY(mu_);
  bool done_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

grpc::ServerWriteReactor<v1::DrainDeviceResponse>* AdminService::DrainDevice(Context*,
                                                                             const v1::DrainDeviceRequest* request) {
  return DrainCall<v1::DrainDeviceResponse>::Start(
      parts_, *request,
      [name = request->name(), etag = request->mutation().etag()](const core::ClusterState& state,
                                                                  core::DrainRequested* event) -> std::optional<Error> {
        const auto found = ResolveDevice(state, name);
        if (const auto* error = std::get_if<Error>(&found)) return *error;
        const core::Device& device = state.At(std::get<core::DeviceId>(found));
        event->devices = {device.id};
        return CheckEtag(device.spec.Name(), Etag(device), etag);
      });
}

grpc::ServerWriteReactor<v1::DrainNodeResponse>* AdminService::DrainNode(Context*,
                                                                         const v1::DrainNodeRequest* request) {
  return DrainCall<v1::DrainNodeResponse>::Start(
      parts_, *request,
      [name = request->name(), etag = request->mutation().etag()](const core::ClusterState& state,
                                                                  core::DrainRequested* event) -> std::optional<Error> {
        if (!etag.empty()) return HasNoEtag("node");
        auto found = ResolveNode(state, name);
        if (const auto* error = std::get_if<Error>(&found)) return *error;
        event->devices = std::get<std::vector<core::DeviceId>>(std::move(found));
        return std::nullopt;
      });
}

grpc::ServerWriteReactor<v1::DrainGroupResponse>* AdminService::DrainGroup(Context*,
                                                                           const v1::DrainGroupRequest* request) {
  return DrainCall<v1::DrainGroupResponse>::Start(
      parts_, *request,
      [name = request->name(), etag = request->mutation().etag()](const core::ClusterState& state,
                                                                  core::DrainRequested* event) -> std::optional<Error> {
        if (!etag.empty()) return HasNoEtag("group");
        const auto found = ResolveGroup(state, name);
        if (const auto* error = std::get_if<Error>(&found)) return *error;
        event->group = std::get<const core::Group*>(found)->id;
        return std::nullopt;
      });
}

// ---- events -------------------------------------------------------------------------------------------------------

class WatchCall final : public grpc::ServerWriteReactor<v1::WatchEventsResponse>,
                        public AdmittedCall,
                        public std::enable_shared_from_this<WatchCall> {
 public:
  static WatchCall* Start(EventLog* log, uint64_t from, const Admission& admission) {
    auto call = std::make_shared<WatchCall>(log, from, admission);
    call->self_ = call;
    call->watch_ = log->Watch([call = call.get()] { call->Wake(); });
    admission.Enter(call.get());
    call->Wake();
    return call.get();
  }
  WatchCall(EventLog* log, uint64_t from, const Admission& admission)
      : log_(log),
        admission_(admission),
        next_(from == 0                   ? log->next_sequence()
              : from == EventLog::kOldest ? log->oldest_sequence()
                                          : from) {}

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) Leave(ClientLeft());
    Pump();
  }
  void OnCancel() override {
    absl::MutexLock lock(&mu_);
    Leave(ClientLeft());
    Pump();
  }
  void PutOut(const Error& why) override {
    absl::MutexLock lock(&mu_);
    Leave(why);
    Pump();
  }
  std::shared_ptr<AdmittedCall> KeepAdmitted() override { return shared_from_this(); }
  void OnDone() override {
    admission_.Leave(this);
    log_->Unwatch(watch_);  // waits for a Wake under way
    auto self = std::move(self_);
  }

 private:
  void Wake() {
    absl::MutexLock lock(&mu_);
    Pump();
  }

  void Pump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (writing_ || finished_) return;
    if (leaves_with_) return FinishWith(ToGrpc(*leaves_with_));
    std::vector<LoggedEvent> events;
    if (const absl::Status read = log_->Read(next_, 1, &events); !read.ok()) {
      return FinishWith(ToGrpc(
          {kNotFound, std::string(read.message()), {}, {{"first_sequence", absl::StrCat(log_->oldest_sequence())}}}));
    }
    if (events.empty()) return;
    auto& out = *response_.mutable_event();
    out.set_sequence(events[0].sequence);
    out.set_age_ms(ToMilliseconds(Now() - events[0].at));
    out.set_subject(events[0].subject);
    out.set_text(events[0].text);
    next_ = events[0].sequence + 1;
    writing_ = true;
    StartWrite(&response_);
  }
  void FinishWith(const grpc::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    finished_ = true;
    Finish(status);
  }
  // The first reason counts.
  void Leave(const Error& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (!leaves_with_) leaves_with_ = why;
  }

  EventLog* const log_;
  const Admission admission_;
  EventLog::WatchId watch_ = 0;
  std::shared_ptr<WatchCall> self_;

  absl::Mutex mu_;
  uint64_t next_ ABSL_GUARDED_BY(mu_);
  v1::WatchEventsResponse response_ ABSL_GUARDED_BY(mu_);
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<Error> leaves_with_ ABSL_GUARDED_BY(mu_);
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

grpc::ServerWriteReactor<v1::WatchEventsResponse>* AdminService::WatchEvents(Context*,
                                                                             const v1::WatchEventsRequest* request,
                                                                             const Admission& admission) {
  return WatchCall::Start(parts_.events, request->from_sequence(), admission);
}

}  // namespace tandem::scheduler
