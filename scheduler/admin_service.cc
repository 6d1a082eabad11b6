#include "scheduler/admin_service.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/clock.h"
#include "scheduler/ids.h"
#include "scheduler/name_resolver.h"
#include "scheduler/topology_view.h"
#include "scheduler/translate.h"

namespace tandem::scheduler {
namespace {

// A list of more is a dump; the core's thread would be held up by it.
constexpr size_t kMostRequestsListed = 10000;

// Undeployed, and nothing of it is left.
bool IsOver(const core::Model& model) { return model.undeployed && model.groups.empty(); }

uint64_t Milliseconds(core::Duration d) { return d.us > 0 ? static_cast<uint64_t>(d.us) / 1000 : 0; }

// The first sentence is the verdict.
grpc::Status Explain(const std::string& subject, const absl::StatusOr<std::vector<std::string>>& sentences,
                     v1::Explanation* out) {
  if (!sentences.ok()) return ToGrpc({kNotFound, std::string(sentences.status().message())});
  out->set_subject(subject);
  for (size_t i = 0; i < sentences->size(); ++i) {
    if (i == 0) {
      out->set_verdict((*sentences)[i]);
    } else {
      out->add_lines((*sentences)[i]);
    }
  }
  return grpc::Status::OK;
}

}  // namespace

AdminService::AdminService(Parts parts, std::string version)
    : parts_(parts), version_(std::move(version)), started_(Now()) {}

AdminService::Unary* AdminService::Look(Context* context, std::function<grpc::Status(const core::Core&)> look) {
  auto* reactor = context->DefaultReactor();
  const bool asked = parts_.core->PostQuery(
      [reactor, look = std::move(look)](const core::Core& core) { reactor->Finish(look(core)); });
  if (!asked) reactor->Finish(ToGrpc({kQueueFull, "the scheduler is behind; try again"}));
  return reactor;
}

AdminService::Unary* AdminService::GetStatus(Context* context, const v1::GetStatusRequest*,
                                             v1::GetStatusResponse* response) {
  return Look(context, [=, this](const core::Core& core) {
    const core::ClusterState& state = core.state();
    response->set_version(version_);
    response->set_leader_epoch(state.leader_epoch);
    response->set_uptime_ms(Milliseconds(Now() - started_));
    bool ready = !state.models.empty();
    for (const core::Model& model : state.models) {
      if (IsOver(model)) continue;
      if (!model.undeployed) ready = ready && state.ReadyReplicas(model) > 0;
      *response->add_models() = ModelFrom(state, model);
    }
    response->set_ready(ready);
    for (const auto& [id, group] : state.groups) *response->add_groups() = GroupFrom(state, group);
    for (const core::Device& device : state.devices) *response->add_devices() = DeviceFrom(state, device);
    response->set_requests_queued(static_cast<uint32_t>(state.waiting.requests));
    response->set_requests_running(static_cast<uint32_t>(state.running_requests));
    response->set_requests_finished(state.counters.finished);
    response->set_requests_failed(state.counters.failed);
    response->set_requests_cancelled(state.counters.cancelled);
    return grpc::Status::OK;
  });
}

AdminService::Unary* AdminService::ListNodes(Context* context, const v1::ListNodesRequest*,
                                             v1::ListNodesResponse* response) {
  return Look(context, [=](const core::Core& core) {
    std::map<std::string, v1::Node> nodes;
    for (const core::Device& device : core.state().devices) {
      v1::Node& node = nodes[device.spec.node];
      node.set_devices(node.devices() + 1);
      if (device.state == core::DeviceState::kActive) node.set_active_devices(node.active_devices() + 1);
    }
    for (auto& [name, node] : nodes) {
      node.set_name(absl::StrCat("nodes/", name));
      *response->add_nodes() = node;
    }
    return grpc::Status::OK;
  });
}

AdminService::Unary* AdminService::ListDevices(Context* context, const v1::ListDevicesRequest*,
                                               v1::ListDevicesResponse* response) {
  return Look(context, [=](const core::Core& core) {
    for (const core::Device& device : core.state().devices) {
      *response->add_devices() = DeviceFrom(core.state(), device);
    }
    return grpc::Status::OK;
  });
}

AdminService::Unary* AdminService::GetDevice(Context* context, const v1::GetDeviceRequest* request,
                                             v1::GetDeviceResponse* response) {
  return Look(context, [=](const core::Core& core) {
    const auto found = ResolveDevice(core.state(), request->name());
    if (const auto* error = std::get_if<Error>(&found)) return ToGrpc(*error);
    const core::Device& device = core.state().At(std::get<core::DeviceId>(found));
    *response->mutable_device() = DeviceFrom(core.state(), device);
    return grpc::Status::OK;
  });
}

AdminService::Unary* AdminService::ListGroups(Context* context, const v1::ListGroupsRequest* request,
                                              v1::ListGroupsResponse* response) {
  return Look(context, [=](const core::Core& core) {
    if (request->all()) {
      for (const core::Group& group : core.state().dissolved) *response->add_groups() = GroupFrom(core.state(), group);
    }
    for (const auto& [id, group] : core.state().groups) *response->add_groups() = GroupFrom(core.state(), group);
    return grpc::Status::OK;
  });
}

AdminService::Unary* AdminService::GetGroup(Context* context, const v1::GetGroupRequest* request,
                                            v1::GetGroupResponse* response) {
  return Look(context, [=](const core::Core& core) {
    const auto found = ResolveGroup(core.state(), request->name());
    if (const auto* error = std::get_if<Error>(&found)) return ToGrpc(*error);
    *response->mutable_group() = GroupFrom(core.state(), *std::get<const core::Group*>(found));
    return grpc::Status::OK;
  });
}

AdminService::Unary* AdminService::ListModels(Context* context, const v1::AdminServiceListModelsRequest*,
                                              v1::AdminServiceListModelsResponse* response) {
  return Look(context, [=](const core::Core& core) {
    for (const core::Model& model : core.state().models) {
      if (!IsOver(model)) *response->add_models() = ModelFrom(core.state(), model);
    }
    return grpc::Status::OK;
  });
}

AdminService::Unary* AdminService::GetModel(Context* context, const v1::GetModelRequest* request,
                                            v1::GetModelResponse* response) {
  return Look(context, [=](const core::Core& core) {
    const auto found = ResolveModel(core.state(), request->name());
    if (const auto* error = std::get_if<Error>(&found)) return ToGrpc(*error);
    *response->mutable_model() = ModelFrom(core.state(), *std::get<const core::Model*>(found));
    return grpc::Status::OK;
  });
}

AdminService::Unary* AdminService::ListRequests(Context* context, const v1::ListRequestsRequest* request,
                                                v1::ListRequestsResponse* response) {
  return Look(context, [=](const core::Core& core) {
    const core::ClusterState& state = core.state();
    if (request->all()) {
      for (const auto& ended : state.ended) *response->add_requests() = RequestFrom(state, *ended);
    }
    for (const auto& [serial, living] : state.requests) {
      if (static_cast<size_t>(response->requests_size()) >= kMostRequestsListed) break;
      *response->add_requests() = RequestFrom(state, *living);
    }
    return grpc::Status::OK;
  });
}

AdminService::Unary* AdminService::GetRequest(Context* context, const v1::GetRequestRequest* request,
                                              v1::GetRequestResponse* response) {
  return Look(context, [=](const core::Core& core) {
    const auto found = ResolveRequest(core.state(), request->name());
    if (const auto* error = std::get_if<Error>(&found)) return ToGrpc(*error);
    *response->mutable_request() = RequestFrom(core.state(), *std::get<const core::Request*>(found));
    return grpc::Status::OK;
  });
}

// ---- why ----------------------------------------------------------------------------------------------------------

AdminService::Unary* AdminService::ExplainRequest(Context* context, const v1::ExplainRequestRequest* request,
                                                  v1::ExplainRequestResponse* response) {
  return Look(context, [=, this](const core::Core& core) {
    const auto found = ResolveRequest(core.state(), request->name());
    if (const auto* error = std::get_if<Error>(&found)) return ToGrpc(*error);
    const core::RequestId id = std::get<const core::Request*>(found)->id;
    const std::string name = absl::StrCat("requests/", ToHex(id));
    for (const LoggedEvent& event : parts_.events->About(name)) {
      auto& out = *response->add_history();
      out.set_sequence(event.sequence);
      out.set_age_ms(Milliseconds(Now() - event.at));
      out.set_subject(event.subject);
      out.set_text(event.text);
    }
    return Explain(name, core.ExplainRequest(id), response->mutable_explanation());
  });
}

AdminService::Unary* AdminService::ExplainGroup(Context* context, const v1::ExplainGroupRequest* request,
                                                v1::ExplainGroupResponse* response) {
  return Look(context, [=](const core::Core& core) {
    const auto found = ResolveGroup(core.state(), request->name());
    if (const auto* error = std::get_if<Error>(&found)) return ToGrpc(*error);
    const core::GroupId id = std::get<const core::Group*>(found)->id;
    return Explain(GroupName(id), core.ExplainGroup(id), response->mutable_explanation());
  });
}

AdminService::Unary* AdminService::ExplainModel(Context* context, const v1::ExplainModelRequest* request,
                                                v1::ExplainModelResponse* response) {
  return Look(context, [=](const core::Core& core) {
    const auto found = ResolveModel(core.state(), request->name());
    if (const auto* error = std::get_if<Error>(&found)) return ToGrpc(*error);
    const std::string& name = std::get<const core::Model*>(found)->spec.name;
    return Explain(absl::StrCat("models/", name), core.ExplainModel(name), response->mutable_explanation());
  });
}

AdminService::Unary* AdminService::GetTopology(Context* context, const v1::GetTopologyRequest*,
                                               v1::GetTopologyResponse* response) {
  return Look(context, [=, this](const core::Core& core) {
    FillTopology(core.state(), *parts_.registry, Now(), response);
    return grpc::Status::OK;
  });
}

}  // namespace tandem::scheduler
