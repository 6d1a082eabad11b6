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

}  // namespace

void Gateway::Tokenize(std::shared_ptr<RoutedExchange> exchange) {
  auto request = ParseWith(ParseTokenize, exchange->request());
  if (auto* error = std::get_if<ApiError>(&request)) return exchange->Respond(ToResponse(*error));
  CallScheduler<v1::TokenizeRequest, v1::TokenizeResponse>(
      exchange, client_, &client::AsyncClient::Tokenize, std::get<v1::TokenizeRequest>(std::move(request)),
      kTokenizeTimeout, [](const v1::TokenizeResponse& response) {
        return HttpResponse{.body = absl::StrCat("{\"count\":", response.token_ids_size(),
                                                 ",\"max_model_len\":", response.max_model_len(), ",\"tokens\":[",
                                                 absl::StrJoin(response.token_ids(), ","), "],\"token_strs\":null}")};
      });
}

void Gateway::Detokenize(std::shared_ptr<RoutedExchange> exchange) {
  auto request = ParseWith(ParseDetokenize, exchange->request());
  if (auto* error = std::get_if<ApiError>(&request)) return exchange->Respond(ToResponse(*error));
  CallScheduler<v1::DetokenizeRequest, v1::DetokenizeResponse>(
      exchange, client_, &client::AsyncClient::Detokenize, std::get<v1::DetokenizeRequest>(std::move(request)),
      kTokenizeTimeout, [](const v1::DetokenizeResponse& response) {
        return HttpResponse{.body = absl::StrCat("{\"prompt\":", JsonString(response.text()), "}")};
      });
}

}  // namespace tandem::gateway
