// What /v1/embeddings and the rerank routes are asked for: JSON to a call of the scheduler, purely.
#ifndef TANDEM_CLIENT_GATEWAY_EMBEDDING_REQUEST_H_
#define TANDEM_CLIENT_GATEWAY_EMBEDDING_REQUEST_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>
#include <vector>

#include "client/gateway/api_error.h"
#include "tandem/v1/inference.pb.h"

namespace tandem::gateway {

inline constexpr size_t kMostInputs = 2048;  // of one call, as OpenAI has it

struct EmbeddingRequest {
  v1::EmbedRequest call;
  bool base64 = false;  // little-endian float32, as openai-python asks for unless told otherwise
};
std::variant<EmbeddingRequest, ApiError> ParseEmbedding(const nlohmann::json& body);

struct RerankQuestion {
  v1::RerankRequest call;
  bool return_documents = true;
};
std::variant<RerankQuestion, ApiError> ParseRerank(const nlohmann::json& body);

// {"object": "list", "data": [...], "model", "usage"}
std::string EmbeddingsJson(const EmbeddingRequest& request, const v1::EmbedResponse& response);
// Cohere's and Jina's shape: {"id", "model", "results": [{"index", "relevance_score", "document"}], "usage", "meta"}.
// `top_n` in the request is applied here too.
std::string RerankJson(const RerankQuestion& question, const std::string& id, const v1::RerankResponse& response);

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_EMBEDDING_REQUEST_H_
