// What /v1/completions and /v1/chat/completions are asked for: JSON to a struct, purely.
//
// Field names and meanings are OpenAI's, with vLLM's extras; the ranges of sampling are the scheduler's to check. What
// would change the answer's meaning and is not served is refused by name, everything unknown is tolerated.
#ifndef TANDEM_CLIENT_GATEWAY_COMPLETION_REQUEST_H_
#define TANDEM_CLIENT_GATEWAY_COMPLETION_REQUEST_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "client/gateway/api_error.h"
#include "client/gateway/json_body.h"
#include "client/gateway/tool_request.h"
#include "tandem/v1/inference.pb.h"

namespace tandem::gateway {

inline constexpr int kMostChoices = 128;       // prompts times n: each is a request of its own in the scheduler
inline constexpr size_t kMostMessages = 4096;  // of one chat

struct CompletionRequest {
  bool chat = false;
  std::string model;                         // as the caller wrote it; empty: the one that there is
  std::vector<v1::GenerateRequest> prompts;  // at least one; seeds are of choice 0
  int n = 1;                                 // choices of each prompt
  bool stream = false;
  bool include_usage = false;  // of a stream: one more chunk at its end
  bool include_stop = false;   // the stop string that ended a text is part of it
  bool logprobs = false;       // prompts say how many alternatives
  bool tokens_as_ids = false;  // in logprobs: "token_id:17" for the token's text
  ToolRequest tools;           // that a chat's answer may call

  void set_model(const std::string& name) {
    model = name;
    for (v1::GenerateRequest& prompt : prompts) prompt.set_model(name);
  }
  int choices() const { return static_cast<int>(prompts.size()) * n; }
  // Choice i is completion i % n of prompt i / n. Each has draws of its own, also under one seed.
  v1::GenerateRequest ForChoice(int i) const;
};

std::variant<CompletionRequest, ApiError> ParseCompletion(const nlohmann::json& body);
// `text`: what `body` was parsed from.
std::variant<CompletionRequest, ApiError> ParseChat(const nlohmann::json& body, absl::string_view text);

// max_tokens, or as chats call it now, max_completion_tokens.
std::optional<uint32_t> ReadMaxTokens(Fields& fields, const char* name);

// What both have in common: model, sampling, stopping, stream, n, and the refusals. `prompt` gets what stands in a
// GenerateRequest beside the prompt itself.
void ReadCommon(Fields& fields, CompletionRequest* out, v1::GenerateRequest* prompt);

// A conversation: `messages` and how they become a prompt.
void ReadChatPrompt(Fields& fields, v1::ChatPrompt* out);

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_COMPLETION_REQUEST_H_
