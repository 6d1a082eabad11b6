// The calls of AdminService that change something and are answered at once.
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/admin_service.h"
#include "scheduler/name_resolver.h"
#include "scheduler/translate.h"

namespace tandem::scheduler {
namespace {

constexpr size_t kLongestReason = 512;

grpc::Status OneDevice(const core::ClusterState& state, const std::string& name, const std::string& etag,
                       std::vector<core::DeviceId>* out) {
  const auto found = ResolveDevice(state, name);
  if (const auto* error = std::get_if<Error>(&found)) return ToGrpc(*error);
  const core::DeviceId id = std::get<core::DeviceId>(found);
  if (!etag.empty()) {
    const std::string now = DeviceFrom(state, state.At(id)).etag();
    if (etag != now) {
      return ToGrpc({kEtagMismatch, absl::StrCat(state.At(id).spec.Name(), " has changed: its etag is ", now, ", not ",
                                                 etag.substr(0, 64), "; look again")});
    }
  }
  out->push_back(id);
  return grpc::Status::OK;
}

grpc::Status NodeDevices(const core::ClusterState& state, const std::string& name, const std::string& etag,
                         std::vector<core::DeviceId>* out) {
  if (!etag.empty()) return ToGrpc({kInvalidParameter, "a node has no etag; leave it out, or name its devices"});
  auto found = ResolveNode(state, name);
  if (const auto* error = std::get_if<Error>(&found)) return ToGrpc(*error);
  *out = std::get<std::vector<core::DeviceId>>(std::move(found));
  return grpc::Status::OK;
}

}  // namespace

AdminService::Unary* AdminService::ChangeDevices(
    Context* context, const v1::Mutation& mutation,
    std::function<grpc::Status(const core::ClusterState&, std::vector<core::DeviceId>*)> resolve,
    std::function<core::Event(core::DeviceId)> make,
    std::function<void(const core::ClusterState&, const core::Device&)> show) {
  auto* reactor = context->DefaultReactor();
  if (mutation.reason().size() > kLongestReason) {
    reactor->Finish(ToGrpc({kInvalidParameter, absl::StrCat("mutation.reason has ", mutation.reason().size(),
                                                            " bytes; allowed are ", kLongestReason)}));
    return reactor;
  }
  const bool validate_only = mutation.validate_only();
  auto* core_loop = parts_.core;
  const bool asked = core_loop->PostQuery(
      [=, resolve = std::move(resolve), make = std::move(make), show = std::move(show)](const core::Core& core) {
        std::vector<core::DeviceId> devices;
        if (const grpc::Status status = resolve(core.state(), &devices); !status.ok()) return reactor->Finish(status);
        if (!validate_only) {
          for (core::DeviceId id : devices) core_loop->PostOwed(make(id));
        }
        // Behind the events in the mailbox: what it sees is what became of them.
        const bool answered = core_loop->PostQuery([=](const core::Core& after) {
          for (core::DeviceId id : devices) show(after.state(), after.state().At(id));
          reactor->Finish(grpc::Status::OK);
        });
        if (!answered) reactor->Finish(ToGrpc({kQueueFull, "done, but the scheduler is too far behind to show it"}));
      });
  if (!asked) reactor->Finish(ToGrpc({kQueueFull, "the scheduler is behind; try again"}));
  return reactor;
}

AdminService::Unary* AdminService::CordonDevice(Context* context, const v1::CordonDeviceRequest* request,
                                                v1::CordonDeviceResponse* response) {
  return ChangeDevices(
      context, request->mutation(),
      [=](const auto& state, auto* out) { return OneDevice(state, request->name(), request->mutation().etag(), out); },
      [=](core::DeviceId id) {
        return core::CordonRequested{id, request->mutation().reason()};
      },
      [=](const auto& state, const auto& device) { *response->mutable_device() = DeviceFrom(state, device); });
}

AdminService::Unary* AdminService::UncordonDevice(Context* context, const v1::UncordonDeviceRequest* request,
                                                  v1::UncordonDeviceResponse* response) {
  return ChangeDevices(
      context, request->mutation(),
      [=](const auto& state, auto* out) { return OneDevice(state, request->name(), request->mutation().etag(), out); },
      [](core::DeviceId id) { return core::UncordonRequested{id}; },
      [=](const auto& state, const auto& device) { *response->mutable_device() = DeviceFrom(state, device); });
}

AdminService::Unary* AdminService::CordonNode(Context* context, const v1::CordonNodeRequest* request,
                                              v1::CordonNodeResponse* response) {
  return ChangeDevices(
      context, request->mutation(),
      [=](const auto& state, auto* out) {
        return NodeDevices(state, request->name(), request->mutation().etag(), out);
      },
      [=](core::DeviceId id) {
        return core::CordonRequested{id, request->mutation().reason()};
      },
      [=](const auto& state, const auto& device) { *response->add_devices() = DeviceFrom(state, device); });
}

AdminService::Unary* AdminService::UncordonNode(Context* context, const v1::UncordonNodeRequest* request,
                                                v1::UncordonNodeResponse* response) {
  return ChangeDevices(
      context, request->mutation(),
      [=](const auto& state, auto* out) {
        return NodeDevices(state, request->name(), request->mutation().etag(), out);
      },
      [](core::DeviceId id) { return core::UncordonRequested{id}; },
      [=](const auto& state, const auto& device) { *response->add_devices() = DeviceFrom(state, device); });
}

AdminService::Unary* AdminService::UndrainDevice(Context* context, const v1::UndrainDeviceRequest* request,
                                                 v1::UndrainDeviceResponse* response) {
  return ChangeDevices(
      context, request->mutation(),
      [=](const auto& state, auto* out) { return OneDevice(state, request->name(), request->mutation().etag(), out); },
      [](core::DeviceId id) { return core::UndrainRequested{id}; },
      [=](const auto& state, const auto& device) { *response->mutable_device() = DeviceFrom(state, device); });
}

AdminService::Unary* AdminService::UndrainNode(Context* context, const v1::UndrainNodeRequest* request,
                                               v1::UndrainNodeResponse* response) {
  return ChangeDevices(
      context, request->mutation(),
      [=](const auto& state, auto* out) {
        return NodeDevices(state, request->name(), request->mutation().etag(), out);
      },
      [](core::DeviceId id) { return core::UndrainRequested{id}; },
      [=](const auto& state, const auto& device) { *response->add_devices() = DeviceFrom(state, device); });
}

// ---- not served yet -----------------------------------------------------------------------------------------------

AdminService::Unary* AdminService::DeployModel(Context* context, const v1::DeployModelRequest*,
                                               v1::DeployModelResponse*) {
  auto* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc({kNotServed, "models are deployed by the configuration file; change it and restart"}));
  return reactor;
}

AdminService::Unary* AdminService::UndeployModel(Context* context, const v1::UndeployModelRequest*,
                                                 v1::UndeployModelResponse*) {
  auto* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc({kNotServed, "models are removed in the configuration file; change it and restart"}));
  return reactor;
}

AdminService::Unary* AdminService::ScaleModel(Context* context, const v1::ScaleModelRequest*, v1::ScaleModelResponse*) {
  auto* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc({kNotServed, "replicas are set in the configuration file; change it and restart"}));
  return reactor;
}

}  // namespace tandem::scheduler
