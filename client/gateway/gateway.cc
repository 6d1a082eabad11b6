#include "client/gateway/gateway.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/gateway/completion_call.h"
#include "client/gateway/default_model.h"
#include "client/gateway/http_text.h"
#include "client/gateway/json_text.h"
#include "client/gateway/routed_exchange.h"

namespace tandem::gateway {
namespace {

constexpr absl::Duration kLongestTimeout = absl::Hours(24);
constexpr size_t kLongestHeaderList = 2048;
constexpr absl::Duration kMetricsTimeout = absl::Seconds(3);
constexpr absl::Duration kModelsTimeout = absl::Seconds(10);

// What a page may send: what its browser asks for, since clients have headers of their own (x-stainless-...) and none
// of them does harm here. A list that is none, or too long, is answered by what every client needs.
std::string AllowedHeaders(const HttpRequest& preflight) {
  const absl::string_view asked = preflight.Header("access-control-request-headers");
  const auto fits = [](char c) { return absl::ascii_isalnum(c) || absl::StrContains("-_, ", c); };
  if (asked.empty() || asked.size() > kLongestHeaderList || !absl::c_all_of(asked, fits)) {
    return "authorization, content-type, x-request-id";
  }
  return std::string(asked);
}

// In the numbers of the API, where the lower is served first.
ApiError PriorityRefused(int32_t highest) {
  return {.status = 403,
          .message = absl::StrCat("priority is more urgent than this key may ask for; send ", -highest, " or more"),
          .type = "permission_error",
          .param = "priority",
          .code = "priority_not_allowed"};
}

}  // namespace

absl::Duration TimeoutOf(const HttpRequest& request) {
  double seconds;
  if (!absl::SimpleAtod(request.Header("x-request-timeout"), &seconds) || !(seconds > 0)) {
    return absl::InfiniteDuration();
  }
  return std::min(absl::Seconds(seconds), kLongestTimeout);
}

struct Gateway::Route {
  const char* path;
  const char* method;
  enum class Guard { kOpen, kModels, kKey } guard;
  Handler handler;
  bool prefix = false;  // more of the path may follow
};

const std::vector<Gateway::Route>& Gateway::Routes() {
  using Guard = Route::Guard;
  static const auto* routes = new std::vector<Route>{
      {"/health", "GET", Guard::kOpen, &Gateway::Ready},
      {"/health/live", "GET", Guard::kOpen, &Gateway::Live},
      {"/health/ready", "GET", Guard::kOpen, &Gateway::Ready},
      {"/ping", "GET", Guard::kOpen, &Gateway::Ready},
      {"/version", "GET", Guard::kOpen, &Gateway::Version},
      {"/metrics", "GET", Guard::kOpen, &Gateway::MetricsText},
      {"/v1/models", "GET", Guard::kModels, &Gateway::Models},
      {"/v1/models/", "GET", Guard::kModels, &Gateway::Models, true},
      {"/v1/completions", "POST", Guard::kKey, &Gateway::Completions},
      {"/v1/chat/completions", "POST", Guard::kKey, &Gateway::Chat},
      {"/v1/embeddings", "POST", Guard::kKey, &Gateway::Embeddings},
      {"/rerank", "POST", Guard::kKey, &Gateway::Rerank},
      {"/v1/rerank", "POST", Guard::kKey, &Gateway::Rerank},
      {"/v2/rerank", "POST", Guard::kKey, &Gateway::Rerank},
      {"/tokenize", "POST", Guard::kKey, &Gateway::Tokenize},
      {"/detokenize", "POST", Guard::kKey, &Gateway::Detokenize},
  };
  return *routes;
}

const Gateway::Route* Gateway::FindRoute(absl::string_view path) {
  for (const Route& route : Routes()) {
    if (route.prefix ? absl::StartsWith(path, route.path) : path == route.path) return &route;
  }
  return nullptr;
}

Gateway::Gateway(GatewayOptions options, ApiKeys* keys, client::AsyncClient* client, Metrics* metrics,
                 const std::atomic<bool>* closing)
    : options_(std::move(options)),
      keys_(keys),
      client_(client),
      metrics_(metrics),
      closing_(closing),
      started_(absl::ToUnixSeconds(absl::Now())) {}

std::optional<HttpResponse> Gateway::Screen(HttpRequest* request) {
  const Route* route = FindRoute(request->path);
  std::optional<HttpResponse> refusal = Refusal(route, request);
  if (!refusal.has_value()) return std::nullopt;
  metrics_->OnRequest(route == nullptr ? "other" : route->path, "", refusal->status, absl::ZeroDuration());
  for (auto& header : CorsHeaders(*request)) refusal->headers.push_back(std::move(header));
  return refusal;
}

std::optional<HttpResponse> Gateway::Refusal(const Route* route, HttpRequest* request) const {
  if (request->method == "OPTIONS" && !options_.allowed_origins.empty()) {
    return HttpResponse{.status = 204,
                        .headers = {{"access-control-allow-methods", "GET, POST, OPTIONS"},
                                    {"access-control-allow-headers", AllowedHeaders(*request)},
                                    {"access-control-max-age", "600"}}};
  }
  if (route == nullptr) {
    return ToResponse({.status = 404, .message = "there is nothing at this path", .code = "not_found"});
  }
  if (request->method != route->method) {
    HttpResponse response = ToResponse(
        {.status = 405, .message = absl::StrCat(route->path, " takes ", route->method), .code = "method_not_allowed"});
    response.headers.emplace_back("allow", route->method);
    return response;
  }
  const bool guarded =
      route->guard == Route::Guard::kKey || (route->guard == Route::Guard::kModels && options_.guard_models);
  if (!guarded) return std::nullopt;
  std::optional<Caller> caller = CallerOf(*request);
  if (!caller.has_value()) {
    HttpResponse response = ToResponse({.status = 401,
                                        .message = "this service needs a key: send \"Authorization: Bearer KEY\"",
                                        .type = "authentication_error",
                                        .code = "invalid_api_key"});
    response.headers.emplace_back("www-authenticate", "Bearer");
    return response;
  }
  request->caller = *std::move(caller);
  return std::nullopt;
}

void Gateway::Handle(std::shared_ptr<Exchange> plain) {
  const HttpRequest& request = plain->request();
  const Route* route = FindRoute(request.path);
  (this->*route->handler)(std::make_shared<RoutedExchange>(plain, route->path, metrics_, CorsHeaders(request)));
}

std::optional<Caller> Gateway::CallerOf(const HttpRequest& request) const {
  if (!keys_->required()) return Caller();
  const absl::string_view given = request.Header("authorization");
  if (!absl::StartsWithIgnoreCase(given, "bearer ")) return std::nullopt;
  return keys_->CallerOf(absl::StripAsciiWhitespace(given.substr(strlen("bearer "))), absl::Now());
}

Headers Gateway::CorsHeaders(const HttpRequest& request) const {
  const absl::string_view origin = request.Header("origin");
  if (origin.empty()) return {};
  for (const std::string& allowed : options_.allowed_origins) {
    if (allowed != "*" && allowed != origin) continue;
    Headers headers = {
        {"access-control-allow-origin", allowed},
        {"access-control-expose-headers", "x-request-id, x-tandem-request-id, retry-after, retry-after-ms"}};
    if (allowed != "*") headers.emplace_back("vary", "origin");
    return headers;
  }
  return {};
}

client::Metadata MetadataOf(const HttpRequest& request) {
  client::Metadata metadata = {{"x-request-id", request.id}};
  for (const char* name : {"traceparent", "tracestate"}) {
    if (const auto value = request.Header(name); !value.empty()) metadata.emplace_back(name, std::string(value));
  }
  return metadata;
}

// ---- health and numbers -------------------------------------------------------------------------------------------

void Gateway::Live(std::shared_ptr<RoutedExchange> exchange) { exchange->Respond({.body = "{\"status\":\"live\"}"}); }

void Gateway::Version(std::shared_ptr<RoutedExchange> exchange) {
  exchange->Respond({.body = absl::StrCat("{\"version\":", JsonString(options_.version), "}")});
}

void Gateway::MetricsText(std::shared_ptr<RoutedExchange> exchange) {
  static constexpr char kText[] = "text/plain; version=0.0.4; charset=utf-8";
  if (!options_.vllm_metrics) return exchange->Respond({.body = metrics_->Text(), .content_type = kText});
  v1::GetMetricsRequest request;
  request.set_names("vllm");
  // A scheduler that does not answer must not hide the gateway's own numbers.
  client_->GetMetrics(std::move(request), {.timeout = kMetricsTimeout},
                      [exchange, metrics = metrics_](absl::StatusOr<v1::GetMetricsResponse> response) {
                        exchange->Post([exchange, metrics, response = std::move(response)] {
                          std::string text = metrics->Text();
                          if (response.ok()) text += response->text();
                          exchange->Respond({.body = std::move(text), .content_type = kText});
                        });
                      });
}

// ---- completions --------------------------------------------------------------------------------------------------

void Gateway::Completions(std::shared_ptr<RoutedExchange> exchange) {
  Complete(exchange, ParseWith(ParseCompletion, exchange->request()));
}
void Gateway::Chat(std::shared_ptr<RoutedExchange> exchange) {
  Complete(exchange, ParseWith(ParseChat, exchange->request()));
}

void Gateway::Complete(const std::shared_ptr<RoutedExchange>& exchange,
                       std::variant<CompletionRequest, ApiError> request) {
  if (auto* error = std::get_if<ApiError>(&request)) return exchange->Respond(ToResponse(*error));
  auto& completion = std::get<CompletionRequest>(request);
  const int32_t highest = exchange->caller().highest_priority;
  for (v1::GenerateRequest& prompt : completion.prompts) {
    const auto priority = security::PriorityWithin(highest, prompt.priority());
    if (!priority) return exchange->Respond(ToResponse(PriorityRefused(highest)));
    prompt.set_priority(*priority);
    prompt.set_tenant(exchange->tenant());
  }
  const std::string named = completion.model;
  WithModel(exchange, named, "generate",
            [this, exchange, completion = std::move(completion)](const std::string& model) mutable {
              completion.set_model(model);
              const absl::Duration timeout = TimeoutOf(exchange->request());
              std::make_shared<CompletionCall>(std::move(completion), exchange, client_, metrics_)->Start(timeout);
            });
}

void Gateway::WithModel(const std::shared_ptr<RoutedExchange>& exchange, const std::string& named, const char* task,
                        std::function<void(const std::string& model)> then) {
  if (!named.empty()) return then(named);
  const auto left = std::make_shared<bool>(false);
  auto cancel =
      client_->ListModels({}, {.timeout = kModelsTimeout, .metadata = MetadataOf(exchange->request())},
                          [exchange, left, task, then = std::move(then)](absl::StatusOr<v1::ListModelsResponse> list) {
                            exchange->Post([exchange, left, task, then, list = std::move(list)] {
                              if (*left) return;
                              if (!list.ok()) return exchange->Respond(ToResponse(FromStatus(list.status())));
                              const auto model = DefaultModel(*list, task);
                              if (const auto* error = std::get_if<ApiError>(&model))
                                return exchange->Respond(ToResponse(*error));
                              then(std::get<std::string>(model));
                            });
                          });
  exchange->OnCut([exchange, left, cancel = std::move(cancel)](Cut cut) {
    *left = true;
    cancel();
    exchange->Respond(ToResponse(CutError(cut)));
  });
}

}  // namespace tandem::gateway
