// /v1/embeddings and the rerank routes.
#include "client/gateway/embedding_request.h"
#include "client/gateway/gateway.h"
#include "client/gateway/json_body.h"
#include "client/gateway/unary_call.h"

namespace tandem::gateway {
namespace {

// A batch of long texts on a slow device, behind others.
constexpr absl::Duration kLongest = absl::Minutes(10);

}  // namespace

void Gateway::Embeddings(std::shared_ptr<RoutedExchange> exchange) {
  auto parsed = ParseWith(ParseEmbedding, exchange->request());
  if (auto* error = std::get_if<ApiError>(&parsed)) return exchange->Respond(ToResponse(*error));
  auto request = std::get<EmbeddingRequest>(std::move(parsed));
  const std::string named = request.call.model();
  WithModel(exchange, named, "embed", [this, exchange, request = std::move(request)](const std::string& model) mutable {
    request.call.set_model(model);
    Embed(exchange, std::move(request));
  });
}

void Gateway::Embed(const std::shared_ptr<RoutedExchange>& exchange, EmbeddingRequest request) {
  v1::EmbedRequest call = request.call;
  call.set_tenant(exchange->tenant());
  request.call.clear_inputs();  // the answer needs the rest
  auto answer = [metrics = metrics_, tenant = exchange->tenant(),
                 request = std::move(request)](const v1::EmbedResponse& response) {
    metrics->OnTokens(tenant, response.usage().prompt_tokens(), 0);
    return HttpResponse{.body = EmbeddingsJson(request, response)};
  };
  CallScheduler<v1::EmbedRequest, v1::EmbedResponse>(exchange, client_, &client::AsyncClient::Embed, std::move(call),
                                                     kLongest, std::move(answer));
}

void Gateway::Rerank(std::shared_ptr<RoutedExchange> exchange) {
  auto parsed = ParseWith(ParseRerank, exchange->request());
  if (auto* error = std::get_if<ApiError>(&parsed)) return exchange->Respond(ToResponse(*error));
  auto question = std::get<RerankQuestion>(std::move(parsed));
  const std::string named = question.call.model();
  WithModel(exchange, named, "rerank",
            [this, exchange, question = std::move(question)](const std::string& model) mutable {
              question.call.set_model(model);
              Rank(exchange, std::move(question));
            });
}

void Gateway::Rank(const std::shared_ptr<RoutedExchange>& exchange, RerankQuestion question) {
  v1::RerankRequest call = question.call;
  call.set_tenant(exchange->tenant());
  auto answer = [metrics = metrics_, tenant = exchange->tenant(), id = exchange->request().id,
                 question = std::move(question)](const v1::RerankResponse& response) {
    metrics->OnTokens(tenant, response.usage().prompt_tokens(), 0);
    return HttpResponse{.body = RerankJson(question, id, response)};
  };
  CallScheduler<v1::RerankRequest, v1::RerankResponse>(exchange, client_, &client::AsyncClient::Rerank, std::move(call),
                                                       kLongest, std::move(answer));
}

}  // namespace tandem::gateway
