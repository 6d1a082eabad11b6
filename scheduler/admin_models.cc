// The calls of AdminService that change which models are served, and how; see deployments.h.
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/admin_service.h"
#include "scheduler/core/words.h"
#include "scheduler/mutation.h"
#include "scheduler/name_resolver.h"
#include "scheduler/row_messages.h"

namespace tandem::scheduler {
namespace {

constexpr uint32_t kMostReplicas = 4096;

// The model that is served under what `text` names; else the one of such a name that went last.
const core::Model* Latest(const core::ClusterState& state, const std::string& text) {
  const auto found = ResolveModel(state, text);
  if (const auto* model = std::get_if<const core::Model*>(&found)) return *model;
  for (const std::string& name : ModelNamesMeant(text)) {
    for (auto model = state.models.rbegin(); model != state.models.rend(); ++model) {
      if (model->spec.name == name) return &*model;
    }
  }
  return nullptr;
}

// What became of a change, as things stand right after it.
std::string Outcome(const core::ClusterState& state, const core::Model& model) {
  const std::string name = core::Name(model);
  if (model.undeployed) {
    int64_t requests = 0;
    for (core::GroupId id : model.groups) requests += static_cast<int64_t>(state.Find(id)->requests.size());
    return absl::StrCat(name, " is no longer served; ", core::Count(static_cast<int64_t>(model.groups.size()), "group"),
                        " will leave when ", core::Count(requests, "request"), requests == 1 ? " has" : " have",
                        " ended");
  }
  const v1::Model view = ModelFrom(state, model);
  std::string text = absl::StrCat(name, " wants ", core::Count(view.replicas_wanted(), "replica"), ": ",
                                  view.replicas_ready() - view.replicas_old(), " ready");
  if (view.replicas_old() > 0) absl::StrAppend(&text, ", ", view.replicas_old(), " of an earlier shape until replaced");
  if (!view.waits_for().empty()) absl::StrAppend(&text, "; ", view.waits_for());
  return text;
}

}  // namespace

AdminService::Unary* AdminService::ChangeModel(Context* context, Deployments::Change change, const std::string& request,
                                               ShowModel show, std::function<void(std::string)> say) {
  auto* reactor = context->DefaultReactor();
  if (const auto error = CheckMutation(change.mutation)) {
    reactor->Finish(ToGrpc(*error));
    return reactor;
  }
  if (change.mutation.validate_only()) {
    parts_.deployments->Validate(
        std::move(change), [reactor](const grpc::Status& status) { reactor->Finish(status); },
        [reactor, say = std::move(say)](const core::ModelSpec& spec) {
          say(absl::StrCat("models/", spec.name, " could be so; nothing was changed"));
          reactor->Finish(grpc::Status::OK);
        });
    return reactor;
  }
  const std::string key = change.mutation.idempotency_key();
  const auto opened = parts_.operations->Open(change.verb, key, request);
  if (opened.how == Operations::Opened::How::kOtherRequest) {
    reactor->Finish(ToGrpc(OtherRequestWithKey(key)));
    return reactor;
  }
  auto* core_loop = parts_.core;
  parts_.operations->Follow(opened.id,
                            [=, name = change.name](const core::ReportDrain& report, const grpc::Status& outcome) {
                              if (!outcome.ok()) return reactor->Finish(outcome);
                              if (!report.done) return;
                              core_loop->PostOwedQuery([=](const core::Core& core) {
                                if (const core::Model* model = Latest(core.state(), name)) {
                                  show(core.state(), *model);
                                  say(Outcome(core.state(), *model));
                                }
                                reactor->Finish(grpc::Status::OK);
                              });
                            });
  if (opened.how == Operations::Opened::How::kFresh) parts_.deployments->Make(std::move(change), opened.id);
  return reactor;
}

AdminService::Unary* AdminService::DeployModel(Context* context, const v1::DeployModelRequest* request,
                                               v1::DeployModelResponse* response) {
  auto config = ModelConfigFrom(request->model());
  if (!config.ok()) {
    auto* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpc({kInvalidParameter, std::string(config.status().message()), {}, {{"field", "model"}}}));
    return reactor;
  }
  Deployments::Change change{"deploy", config->name, request->mutation(), *std::move(config), {}};
  return ChangeModel(
      context, std::move(change), RequestHash(*request),
      [=](const auto& state, const auto& model) { *response->mutable_model() = ModelFrom(state, model); },
      [=](std::string text) { response->set_message(std::move(text)); });
}

AdminService::Unary* AdminService::UndeployModel(Context* context, const v1::UndeployModelRequest* request,
                                                 v1::UndeployModelResponse* response) {
  Deployments::Change change{"undeploy", request->name(), request->mutation(), {}, {}};
  return ChangeModel(
      context, std::move(change), RequestHash(*request), [](const auto&, const auto&) {},
      [=](std::string text) { response->set_message(std::move(text)); });
}

AdminService::Unary* AdminService::ScaleModel(Context* context, const v1::ScaleModelRequest* request,
                                              v1::ScaleModelResponse* response) {
  const uint32_t least = request->replicas();
  const uint32_t most = request->replicas_max() == 0 ? least : request->replicas_max();
  if (least < 1 || most < least || most > kMostReplicas) {
    auto* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpc({kInvalidParameter,
                            absl::StrCat("replicas are ", least, " to ", most, "; they must be 1 to ", kMostReplicas,
                                         ", the least first; to serve none, undeploy the model"),
                            {},
                            {{"field", "replicas"}}}));
    return reactor;
  }
  Deployments::Change change{
      "scale", request->name(), request->mutation(), {}, std::pair(static_cast<int>(least), static_cast<int>(most))};
  return ChangeModel(
      context, std::move(change), RequestHash(*request),
      [=](const auto& state, const auto& model) { *response->mutable_model() = ModelFrom(state, model); },
      [=](std::string text) { response->set_message(std::move(text)); });
}

}  // namespace tandem::scheduler
