// One input, every parser of requests: its first byte says which one reads the rest. What is taken must be whole enough
// to be sent, and what is refused must say so in JSON.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "client/gateway/completion_request.h"
#include "client/gateway/embedding_request.h"
#include "client/gateway/http_text.h"
#include "client/gateway/tokenize_request.h"

namespace tandem::gateway {
namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

template <typename Request>
void Read(std::variant<Request, ApiError> (*parser)(const nlohmann::json&), const std::string& body) {
  HttpRequest http;
  http.body = body;
  const auto parsed = ParseWith(parser, http);
  if (const auto* error = std::get_if<ApiError>(&parsed)) {
    Require(error->status == 400 && !error->message.empty());
    Require(nlohmann::json::parse(ErrorJson(*error)).contains("error"));
    return;
  }
  if constexpr (std::is_same_v<Request, CompletionRequest>) {
    const CompletionRequest& request = std::get<Request>(parsed);
    Require(request.choices() >= 1 && request.choices() <= kMostChoices && !request.model.empty());
    for (int i = 0; i < request.choices(); ++i) {
      Require(request.ForChoice(i).prompt_case() != v1::GenerateRequest::PROMPT_NOT_SET);
    }
  }
}

}  // namespace
}  // namespace tandem::gateway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tandem::gateway;
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] % 7) {
    case 0:
      Read(ParseCompletion, text);
      break;
    case 1:
      Read(ParseChat, text);
      break;
    case 2:
      Read(ParseEmbedding, text);
      break;
    case 3:
      Read(ParseRerank, text);
      break;
    case 4:
      Read(ParseTokenize, text);
      break;
    case 5:
      Read(ParseDetokenize, text);
      break;
    default:
      if (const auto path = DecodePath(text)) Require(!path->empty() && path->front() == '/');
      Require(!RequestId(text).empty());
  }
  return 0;
}
