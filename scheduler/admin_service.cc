#include "scheduler/admin_service.h"

#include <map>
#include <set>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "scheduler/clock.h"
#include "scheduler/core/words.h"
#include "scheduler/ids.h"
#include "scheduler/name_resolver.h"
#include "scheduler/queue_positions.h"
#include "scheduler/row_messages.h"
#include "scheduler/row_pages.h"
#include "scheduler/topology_view.h"
#include "scheduler/translate.h"

namespace tandem::scheduler {
namespace {

// A core that needs longer for a turn is stuck; the call fails, and the next one in the line is tried.
constexpr absl::Duration kPatience = absl::Seconds(5);

// What `resolve` finds between two steps, as a row; or why there is none.
template <typename Row, typename Resolve>
std::variant<Row, Error> RowFor(CoreReader& reader, Resolve resolve) {
  auto found = reader.Ask([resolve](const core::Core& core) -> std::variant<Row, Error> {
    auto subject = resolve(core.state());
    if (auto* error = std::get_if<Error>(&subject)) return std::move(*error);
    return RowOf(core.state(), *std::get<0>(subject));
  });
  if (!found) return CoreIsBehind();
  return *std::move(found);
}

// Of each model's queue that one of the rows stands in: how many are before each. False: the core is behind.
bool ReadPositions(CoreReader& reader, const std::vector<RequestRow>& rows,
                   absl::flat_hash_map<core::Serial, uint32_t>* ahead) {
  std::set<core::ModelId> models;
  for (const RequestRow& row : rows) {
    if (row.waits) models.insert(row.model_id);
  }
  for (core::ModelId model : models) {
    auto places = reader.Ask([model](const core::Core& core) { return PlacesOf(core.state(), model); });
    if (!places) return false;
    ahead->merge(AheadOfEach(*std::move(places)));
  }
  return true;
}

v1::Request MessageOf(const RequestRow& row, const absl::flat_hash_map<core::Serial, uint32_t>& ahead) {
  const auto it = ahead.find(row.serial);
  return RequestFrom(row, it == ahead.end() ? 0 : it->second);
}

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

AdminService::Unary* AdminService::Answer(Context* context, std::function<grpc::Status(CoreReader&)> answer) {
  auto* reactor = context->DefaultReactor();
  const bool taken = parts_.answers->Post([this, reactor, answer = std::move(answer)] {
    CoreReader reader([this](CoreReader::Query query) { return parts_.core->PostQuery(std::move(query)); }, kPatience);
    reactor->Finish(answer(reader));
  });
  if (!taken) reactor->Finish(ToGrpc({kQueueFull, "too many lists are asked for at once; try again"}));
  return reactor;
}

AdminService::Unary* AdminService::GetStatus(Context* context, const v1::GetStatusRequest*,
                                             v1::GetStatusResponse* response) {
  return Answer(context, [=, this](CoreReader& reader) {
    const auto cluster = reader.Ask([](const core::Core& core) { return RowOf(core.state()); });
    const auto numbers = Read(reader, TakeGroupNumbers);
    const auto models = Read(reader, TakeModels);
    const auto groups = Read(reader, TakeGroups, 0, kMostOfPage);
    const auto devices = Read(reader, TakeDevices, 0, kMostOfPage);
    if (!cluster || !numbers || !models || !groups || !devices) return ToGrpc(CoreIsBehind());
    response->set_version(version_);
    response->set_leader_epoch(cluster->leader_epoch);
    response->set_uptime_ms(ToMilliseconds(Now() - started_));
    const auto accounts = AccountsOf(numbers->rows);
    bool ready = !models->rows.empty();
    for (const ModelRow& model : models->rows) {
      const ModelAccount& account = AccountOf(accounts, model.id);
      if (IsOver(model, account)) continue;
      if (!model.undeployed) ready = ready && IsReady(model, account);
      *response->add_models() = ModelFrom(model, account);
    }
    response->set_ready(ready);
    for (const GroupRow& group : groups->rows) *response->add_groups() = GroupFrom(group);
    for (const DeviceRow& device : devices->rows) *response->add_devices() = DeviceFrom(device);
    response->set_groups_total(static_cast<uint32_t>(cluster->groups));
    response->set_devices_total(static_cast<uint32_t>(cluster->devices));
    response->set_requests_queued(static_cast<uint32_t>(cluster->waiting.requests));
    response->set_requests_running(static_cast<uint32_t>(cluster->running_requests));
    response->set_requests_finished(cluster->counters.finished);
    response->set_requests_failed(cluster->counters.failed);
    response->set_requests_cancelled(cluster->counters.cancelled);
    return grpc::Status::OK;
  });
}

AdminService::Unary* AdminService::ListNodes(Context* context, const v1::ListNodesRequest*,
                                             v1::ListNodesResponse* response) {
  return Answer(context, [=](CoreReader& reader) {
    const auto nodes = Read(reader, TakeNodes);
    if (!nodes) return ToGrpc(CoreIsBehind());
    std::map<std::string, const NodeRow*> by_name;
    for (const NodeRow& node : nodes->rows) by_name[node.name] = &node;
    for (const auto& [name, node] : by_name) {
      v1::Node& out = *response->add_nodes();
      out.set_name(absl::StrCat("nodes/", name));
      out.set_devices(static_cast<uint32_t>(node->ends.size()));
      out.set_active_devices(static_cast<uint32_t>(node->active));
    }
    return grpc::Status::OK;
  });
}

AdminService::Unary* AdminService::ListDevices(Context* context, const v1::ListDevicesRequest* request,
                                               v1::ListDevicesResponse* response) {
  return Answer(context, [=](CoreReader& reader) {
    std::vector<DeviceRow> rows;
    const auto error = ReadPage<DeviceRow>(reader, {{'d', TakeDevices}}, request->page_size(), request->page_token(),
                                           &rows, response->mutable_next_page_token());
    if (error) return ToGrpc(*error);
    for (const DeviceRow& row : rows) *response->add_devices() = DeviceFrom(row);
    return grpc::Status::OK;
  });
}

AdminService::Unary* AdminService::GetDevice(Context* context, const v1::GetDeviceRequest* request,
                                             v1::GetDeviceResponse* response) {
  return Answer(context, [=](CoreReader& reader) {
    using Found = OrError<const core::Device*>;
    const auto row = RowFor<DeviceRow>(reader, [name = request->name()](const core::ClusterState& state) -> Found {
      auto found = ResolveDevice(state, name);
      if (auto* error = std::get_if<Error>(&found)) return std::move(*error);
      return &state.At(std::get<core::DeviceId>(found));
    });
    if (const auto* error = std::get_if<Error>(&row)) return ToGrpc(*error);
    *response->mutable_device() = DeviceFrom(std::get<DeviceRow>(row));
    return grpc::Status::OK;
  });
}

AdminService::Unary* AdminService::ListGroups(Context* context, const v1::ListGroupsRequest* request,
                                              v1::ListGroupsResponse* response) {
  return Answer(context, [=](CoreReader& reader) {
    std::vector<GroupRow> rows;
    std::string* next = response->mutable_next_page_token();
    const auto read = [&](std::initializer_list<Table<GroupRow>> tables) {
      return ReadPage(reader, tables, request->page_size(), request->page_token(), &rows, next);
    };
    const auto error =
        request->all() ? read({{'x', TakeDissolved}, {'g', TakeGroups}}) : read({Table<GroupRow>{'g', TakeGroups}});
    if (error) return ToGrpc(*error);
    for (const GroupRow& row : rows) *response->add_groups() = GroupFrom(row);
    return grpc::Status::OK;
  });
}

AdminService::Unary* AdminService::GetGroup(Context* context, const v1::GetGroupRequest* request,
                                            v1::GetGroupResponse* response) {
  return Answer(context, [=](CoreReader& reader) {
    const auto row = RowFor<GroupRow>(
        reader, [name = request->name()](const core::ClusterState& state) { return ResolveGroup(state, name); });
    if (const auto* error = std::get_if<Error>(&row)) return ToGrpc(*error);
    *response->mutable_group() = GroupFrom(std::get<GroupRow>(row));
    return grpc::Status::OK;
  });
}

AdminService::Unary* AdminService::ListModels(Context* context, const v1::AdminServiceListModelsRequest*,
                                              v1::AdminServiceListModelsResponse* response) {
  return Answer(context, [=](CoreReader& reader) {
    const auto numbers = Read(reader, TakeGroupNumbers);
    const auto models = Read(reader, TakeModels);
    if (!numbers || !models) return ToGrpc(CoreIsBehind());
    const auto accounts = AccountsOf(numbers->rows);
    for (const ModelRow& model : models->rows) {
      const ModelAccount& account = AccountOf(accounts, model.id);
      if (!IsOver(model, account)) *response->add_models() = ModelFrom(model, account);
    }
    return grpc::Status::OK;
  });
}

AdminService::Unary* AdminService::GetModel(Context* context, const v1::GetModelRequest* request,
                                            v1::GetModelResponse* response) {
  return Answer(context, [=](CoreReader& reader) {
    const auto row = RowFor<ModelRow>(
        reader, [name = request->name()](const core::ClusterState& state) { return ResolveModel(state, name); });
    if (const auto* error = std::get_if<Error>(&row)) return ToGrpc(*error);
    const auto numbers = Read(reader, TakeGroupNumbers);
    if (!numbers) return ToGrpc(CoreIsBehind());
    const ModelRow& model = std::get<ModelRow>(row);
    *response->mutable_model() = ModelFrom(model, AccountOf(AccountsOf(numbers->rows), model.id));
    return grpc::Status::OK;
  });
}

AdminService::Unary* AdminService::ListRequests(Context* context, const v1::ListRequestsRequest* request,
                                                v1::ListRequestsResponse* response) {
  return Answer(context, [=](CoreReader& reader) {
    std::vector<RequestRow> rows;
    std::string* next = response->mutable_next_page_token();
    const auto read = [&](std::initializer_list<Table<RequestRow>> tables) {
      return ReadPage(reader, tables, request->page_size(), request->page_token(), &rows, next);
    };
    const auto error =
        request->all() ? read({{'e', TakeEnded}, {'r', TakeRequests}}) : read({Table<RequestRow>{'r', TakeRequests}});
    if (error) return ToGrpc(*error);
    absl::flat_hash_map<core::Serial, uint32_t> ahead;
    if (!ReadPositions(reader, rows, &ahead)) return ToGrpc(CoreIsBehind());
    for (const RequestRow& row : rows) *response->add_requests() = MessageOf(row, ahead);
    return grpc::Status::OK;
  });
}

AdminService::Unary* AdminService::GetRequest(Context* context, const v1::GetRequestRequest* request,
                                              v1::GetRequestResponse* response) {
  return Answer(context, [=](CoreReader& reader) {
    const auto row = RowFor<RequestRow>(
        reader, [name = request->name()](const core::ClusterState& state) { return ResolveRequest(state, name); });
    if (const auto* error = std::get_if<Error>(&row)) return ToGrpc(*error);
    const RequestRow& found = std::get<RequestRow>(row);
    absl::flat_hash_map<core::Serial, uint32_t> ahead;
    if (!ReadPositions(reader, {found}, &ahead)) return ToGrpc(CoreIsBehind());
    *response->mutable_request() = MessageOf(found, ahead);
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
    return Explain(core::Name(id), core.ExplainRequest(id), response->mutable_explanation());
  });
}

AdminService::Unary* AdminService::ExplainGroup(Context* context, const v1::ExplainGroupRequest* request,
                                                v1::ExplainGroupResponse* response) {
  return Look(context, [=](const core::Core& core) {
    const auto found = ResolveGroup(core.state(), request->name());
    if (const auto* error = std::get_if<Error>(&found)) return ToGrpc(*error);
    const core::GroupId id = std::get<const core::Group*>(found)->id;
    return Explain(core::Name(id), core.ExplainGroup(id), response->mutable_explanation());
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
  return Answer(context, [=, this](CoreReader& reader) {
    const auto devices = Read(reader, TakeDevices);
    const auto nodes = Read(reader, TakeNodes);
    if (!devices || !nodes) return ToGrpc(CoreIsBehind());
    FillTopology(devices->rows, nodes->rows, *parts_.registry, Now(), response);
    return grpc::Status::OK;
  });
}

}  // namespace tandem::scheduler
