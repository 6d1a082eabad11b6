// /tokenize and /detokenize.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/gateway/gateway.h"
#include "client/gateway/json_body.h"
#include "client/gateway/json_text.h"
#include "client/gateway/tokenize_request.h"
#include "client/gateway/unary_call.h"

namespace tandem::gateway {
namespace {

constexpr absl::Duration kTokenizeTimeout = absl::Seconds(30);
constexpr char kAnyTask[] = "";

HttpResponse Tokens(const v1::TokenizeResponse& response) {
  return {.body =
              absl::StrCat("{\"count\":", response.token_ids_size(), ",\"max_model_len\":", response.max_model_len(),
                           ",\"tokens\":[", absl::StrJoin(response.token_ids(), ","), "],\"token_strs\":null}")};
}

HttpResponse Text(const v1::DetokenizeResponse& response) {
  return {.body = absl::StrCat("{\"prompt\":", JsonString(response.text()), "}")};
}

}  // namespace

void Gateway::Tokenize(std::shared_ptr<RoutedExchange> exchange) {
  auto parsed = ParseWith(ParseTokenize, exchange->request());
  if (auto* error = std::get_if<ApiError>(&parsed)) return exchange->Respond(ToResponse(*error));
  auto call = std::get<v1::TokenizeRequest>(std::move(parsed));
  const std::string named = call.model();
  WithModel(exchange, named, kAnyTask, [this, exchange, call = std::move(call)](const std::string& model) mutable {
    call.set_model(model);
    CallScheduler<v1::TokenizeRequest, v1::TokenizeResponse>(exchange, client_, &client::AsyncClient::Tokenize,
                                                             std::move(call), kTokenizeTimeout, Tokens);
  });
}

void Gateway::Detokenize(std::shared_ptr<RoutedExchange> exchange) {
  auto parsed = ParseWith(ParseDetokenize, exchange->request());
  if (auto* error = std::get_if<ApiError>(&parsed)) return exchange->Respond(ToResponse(*error));
  auto call = std::get<v1::DetokenizeRequest>(std::move(parsed));
  const std::string named = call.model();
  WithModel(exchange, named, kAnyTask, [this, exchange, call = std::move(call)](const std::string& model) mutable {
    call.set_model(model);
    CallScheduler<v1::DetokenizeRequest, v1::DetokenizeResponse>(exchange, client_, &client::AsyncClient::Detokenize,
                                                                 std::move(call), kTokenizeTimeout, Text);
  });
}

}  // namespace tandem::gateway
