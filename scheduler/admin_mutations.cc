// The calls of AdminService that change something and are answered at once.
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "scheduler/admin_service.h"
#include "scheduler/mutation.h"
#include "scheduler/name_resolver.h"
#include "scheduler/row_messages.h"

namespace tandem::scheduler {
namespace {

grpc::Status OneDevice(const core::ClusterState& state, const std::string& name, const std::string& etag,
                       std::vector<core::DeviceId>* out) {
  const auto found = ResolveDevice(state, name);
  if (const auto* error = std::get_if<Error>(&found)) return ToGrpc(*error);
  const core::DeviceId id = std::get<core::DeviceId>(found);
  if (const auto error = CheckEtag(state.At(id).spec.Name(), Etag(state.At(id)), etag)) return ToGrpc(*error);
  out->push_back(id);
  return grpc::Status::OK;
}

grpc::Status NodeDevices(const core::ClusterState& state, const std::string& name, const std::string& etag,
                         std::vector<core::DeviceId>* out) {
  if (!etag.empty()) return ToGrpc(HasNoEtag("node"));
  auto found = ResolveNode(state, name);
  if (const auto* error = std::get_if<Error>(&found)) return ToGrpc(*error);
  *out = std::get<std::vector<core::DeviceId>>(std::move(found));
  return grpc::Status::OK;
}

}  // namespace

AdminService::Unary* AdminService::ChangeDevices(Context* context, const v1::Mutation& mutation, Change change) {
  if (mutation.validate_only()) {
    return Look(context, [change = std::move(change), mutation](const core::Core& core) {
      if (const auto error = CheckMutation(mutation)) return ToGrpc(*error);
      std::vector<core::DeviceId> devices;
      if (const grpc::Status status = change.resolve(core.state(), mutation.etag(), &devices); !status.ok())
        return status;
      for (core::DeviceId id : devices) change.show(core.state(), core.state().At(id));
      return grpc::Status::OK;
    });
  }
  auto* reactor = context->DefaultReactor();
  if (const auto error = CheckMutation(mutation)) {
    reactor->Finish(ToGrpc(*error));
    return reactor;
  }
  const auto opened = parts_.operations->Open(change.verb, mutation.idempotency_key(), change.request);
  if (opened.how == Operations::Opened::How::kOtherRequest) {
    reactor->Finish(ToGrpc(OtherRequestWithKey(mutation.idempotency_key())));
    return reactor;
  }
  auto* core_loop = parts_.core;
  // Behind the events in the mailbox, so what it shows is what became of them.
  parts_.operations->Follow(opened.id, [=](const core::ReportDrain& report, const grpc::Status& outcome) {
    if (!outcome.ok()) return reactor->Finish(outcome);
    if (!report.done) return;
    core_loop->PostOwedQuery([=](const core::Core& core) {
      std::vector<core::DeviceId> devices;
      const grpc::Status status = change.resolve(core.state(), /*etag=*/"", &devices);
      for (core::DeviceId id : devices) change.show(core.state(), core.state().At(id));
      reactor->Finish(status);
    });
  });
  if (opened.how == Operations::Opened::How::kKnown) return reactor;
  const bool asked =
      core_loop->PostQuery([this, id = opened.id, mutation, change = std::move(change)](const core::Core& core) {
        CarryOut(id, mutation, change, core.state());
      });
  if (!asked) parts_.operations->Withdraw(opened.id, ToGrpc({kQueueFull, "the scheduler is behind; try again"}));
  return reactor;
}

void AdminService::CarryOut(core::OperationId operation, const v1::Mutation& mutation, const Change& change,
                            const core::ClusterState& state) {
  std::vector<core::DeviceId> devices;
  if (const grpc::Status status = change.resolve(state, mutation.etag(), &devices); !status.ok()) {
    return parts_.operations->Withdraw(operation, status);
  }
  store::Operation row;
  row.reason = mutation.reason();
  row.asked_us = absl::ToUnixMicros(absl::Now());
  std::vector<core::Event> events;
  for (core::DeviceId id : devices) {
    row.devices.push_back(state.At(id).spec.Name());
    events.push_back(change.make(id));
  }
  store::Batch batch;
  batch.operations.push_back(parts_.operations->Describe(operation, std::move(row)));
  const bool taken = parts_.store->Submit(
      std::move(batch), [parts = parts_, operation, events = std::move(events)](const absl::Status& status) {
        if (!status.ok()) return parts.operations->Withdraw(operation, ToGrpc(StoreUnavailable(status)));
        for (const core::Event& event : events) parts.core->PostOwed(event);
        parts.core->PostOwedQuery([=](const core::Core&) { parts.intents->Finished(operation); });
      });
  if (!taken) parts_.operations->Withdraw(operation, ToGrpc({kQueueFull, "too many operations wait for the disk"}));
}

AdminService::Unary* AdminService::CordonDevice(Context* context, const v1::CordonDeviceRequest* request,
                                                v1::CordonDeviceResponse* response) {
  return ChangeDevices(
      context, request->mutation(),
      {"cordon", RequestHash(*request),
       [name = request->name()](const auto& state, const auto& etag, auto* out) {
         return OneDevice(state, name, etag, out);
       },
       [reason = request->mutation().reason()](core::DeviceId id) {
         return core::CordonRequested{id, reason};
       },
       [=](const auto& state, const auto& device) { *response->mutable_device() = DeviceFrom(state, device); }});
}

AdminService::Unary* AdminService::CordonNode(Context* context, const v1::CordonNodeRequest* request,
                                              v1::CordonNodeResponse* response) {
  return ChangeDevices(
      context, request->mutation(),
      {"cordon", RequestHash(*request),
       [name = request->name()](const auto& state, const auto& etag, auto* out) {
         return NodeDevices(state, name, etag, out);
       },
       [reason = request->mutation().reason()](core::DeviceId id) {
         return core::CordonRequested{id, reason};
       },
       [=](const auto& state, const auto& device) { *response->add_devices() = DeviceFrom(state, device); }});
}

AdminService::Unary* AdminService::UncordonDevice(Context* context, const v1::UncordonDeviceRequest* request,
                                                  v1::UncordonDeviceResponse* response) {
  return ChangeDevices(
      context, request->mutation(),
      {"uncordon", RequestHash(*request),
       [name = request->name()](const auto& state, const auto& etag, auto* out) {
         return OneDevice(state, name, etag, out);
       },
       [](core::DeviceId id) { return core::UncordonRequested{id}; },
       [=](const auto& state, const auto& device) { *response->mutable_device() = DeviceFrom(state, device); }});
}

AdminService::Unary* AdminService::UncordonNode(Context* context, const v1::UncordonNodeRequest* request,
                                                v1::UncordonNodeResponse* response) {
  return ChangeDevices(
      context, request->mutation(),
      {"uncordon", RequestHash(*request),
       [name = request->name()](const auto& state, const auto& etag, auto* out) {
         return NodeDevices(state, name, etag, out);
       },
       [](core::DeviceId id) { return core::UncordonRequested{id}; },
       [=](const auto& state, const auto& device) { *response->add_devices() = DeviceFrom(state, device); }});
}

AdminService::Unary* AdminService::UndrainDevice(Context* context, const v1::UndrainDeviceRequest* request,
                                                 v1::UndrainDeviceResponse* response) {
  return ChangeDevices(
      context, request->mutation(),
      {"undrain", RequestHash(*request),
       [name = request->name()](const auto& state, const auto& etag, auto* out) {
         return OneDevice(state, name, etag, out);
       },
       [](core::DeviceId id) { return core::UndrainRequested{id}; },
       [=](const auto& state, const auto& device) { *response->mutable_device() = DeviceFrom(state, device); }});
}

AdminService::Unary* AdminService::UndrainNode(Context* context, const v1::UndrainNodeRequest* request,
                                               v1::UndrainNodeResponse* response) {
  return ChangeDevices(
      context, request->mutation(),
      {"undrain", RequestHash(*request),
       [name = request->name()](const auto& state, const auto& etag, auto* out) {
         return NodeDevices(state, name, etag, out);
       },
       [](core::DeviceId id) { return core::UndrainRequested{id}; },
       [=](const auto& state, const auto& device) { *response->add_devices() = DeviceFrom(state, device); }});
}

}  // namespace tandem::scheduler
