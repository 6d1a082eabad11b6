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
#include "client/gateway/tool_calls.h"

namespace tandem::gateway {
namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

template <typename Parser>
void Read(Parser parser, const std::string& body) {
  HttpRequest http;
  http.body = body;
  const auto parsed = ParseWith(parser, http);
  using Request = std::variant_alternative_t<0, std::decay_t<decltype(parsed)>>;
  if (const auto* error = std::get_if<ApiError>(&parsed)) {
    Require(error->status == 400 && !error->message.empty());
    Require(nlohmann::json::parse(ErrorJson(*error)).contains("error"));
    return;
  }
  if constexpr (std::is_same_v<Request, CompletionRequest>) {
    const CompletionRequest& request = std::get<Request>(parsed);
    Require(request.choices() >= 1 && request.choices() <= kMostChoices);
    for (int i = 0; i < request.choices(); ++i) {
      Require(request.ForChoice(i).prompt_case() != v1::GenerateRequest::PROMPT_NOT_SET);
    }
    if (request.tools.any()) Require(nlohmann::json::parse(request.prompts[0].chat().tools_json()).is_array());
  }
}

// A model's text, in one piece and byte by byte: the same is found, and without calls the text is whole.
void ReadCalls(const std::string& text) {
  const Tools tools = {{"f", {{"n", ParameterKind::kJson}, {"m", ParameterKind::kTextOrNull}}}, {"get_weather"}};
  ToolCallReader whole(&tools, false), pieces(&tools, false);
  ToolCallReader::Found a, b;
  const auto add = [](ToolCallReader::Found more, ToolCallReader::Found* to) {
    to->text += more.text;
    for (ToolCall& call : more.calls) to->calls.push_back(std::move(call));
  };
  add(whole.Read(text), &a);
  add(whole.End(), &a);
  for (const char c : text) add(pieces.Read(std::string(1, c)), &b);
  add(pieces.End(), &b);
  Require(a.text == b.text && a.calls.size() == b.calls.size());
  for (size_t i = 0; i < a.calls.size(); ++i) {
    Require(a.calls[i].name == b.calls[i].name && a.calls[i].arguments == b.calls[i].arguments);
  }
  if (a.calls.empty()) Require(a.text == text);
}

}  // namespace
}  // namespace tandem::gateway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tandem::gateway;
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] % 8) {
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
    case 6:
      ReadCalls(text);
      break;
    default:
      if (const auto path = DecodePath(text)) Require(!path->empty() && path->front() == '/');
      Require(!RequestId(text).empty());
  }
  return 0;
}
