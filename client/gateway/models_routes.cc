// /v1/models and readiness: what the scheduler serves.
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/gateway/gateway.h"
#include "client/gateway/json_text.h"
#include "client/gateway/unary_call.h"

namespace tandem::gateway {
namespace {

constexpr absl::Duration kModelsTimeout = absl::Seconds(10);
// Shorter than the time that probes allow themselves.
constexpr absl::Duration kHealthTimeout = absl::Seconds(3);

std::string ModelJson(const std::string& id, const v1::ServedModel& model, int64_t created) {
  std::string out = absl::StrCat("{\"id\":", JsonString(id), ",\"object\":\"model\",\"created\":", created,
                                 ",\"owned_by\":\"tandem\",\"root\":", JsonString(model.name()),
                                 ",\"parent\":null,\"task\":", JsonString(model.task()),
                                 ",\"ready\":", model.ready() ? "true" : "false");
  if (model.max_model_len() > 0) absl::StrAppend(&out, ",\"max_model_len\":", model.max_model_len());
  return out + "}";
}

// Calls `found` with every name that a model answers to. "*" answers to all and is no name.
template <typename Found>
void ForEachName(const v1::ListModelsResponse& list, Found found) {
  for (const v1::ServedModel& model : list.models()) {
    found(model.name(), model);
    for (const std::string& alias : model.aliases()) {
      if (alias != "*") found(alias, model);
    }
  }
}

}  // namespace

void Gateway::Models(std::shared_ptr<RoutedExchange> exchange) {
  std::string wanted(exchange->request().path);
  wanted = wanted == "/v1/models" ? "" : std::string(absl::StripPrefix(wanted, "/v1/models/"));
  CallScheduler<v1::ListModelsRequest, v1::ListModelsResponse>(
      exchange, client_, &client::AsyncClient::ListModels, {}, kModelsTimeout,
      [wanted, created = started_](const v1::ListModelsResponse& list) -> HttpResponse {
        std::string models, one;
        ForEachName(list, [&](const std::string& name, const v1::ServedModel& model) {
          const std::string json = ModelJson(name, model, created);
          if (name == wanted) one = json;
          absl::StrAppend(&models, models.empty() ? "" : ",", json);
        });
        if (wanted.empty()) return {.body = absl::StrCat("{\"object\":\"list\",\"data\":[", models, "]}")};
        if (!one.empty()) return {.body = one};
        return ToResponse({.status = 404,
                           .message = "there is no model of this name; GET /v1/models lists those that there are",
                           .param = "model",
                           .code = "model_not_found"});
      });
}

// Ready: the scheduler answers, and at least one model has a group that can take requests. One of several models being
// loaded, or one of several devices being drained, is no reason to send everybody elsewhere.
void Gateway::Ready(std::shared_ptr<RoutedExchange> exchange) {
  const auto unavailable = [](const char* status) {
    return HttpResponse{
        .status = 503, .body = absl::StrCat("{\"status\":\"", status, "\"}"), .headers = {{"retry-after", "1"}}};
  };
  if (closing_->load()) return exchange->Respond(unavailable("draining"));
  CallScheduler<v1::ListModelsRequest, v1::ListModelsResponse>(
      exchange, client_, &client::AsyncClient::ListModels, {}, kHealthTimeout,
      [unavailable](const v1::ListModelsResponse& list) {
        for (const v1::ServedModel& model : list.models()) {
          if (model.ready()) return HttpResponse{.body = "{\"status\":\"ready\"}"};
        }
        return unavailable("loading");
      });
}

}  // namespace tandem::gateway
