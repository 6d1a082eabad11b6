// A conversation of a request, checked, rendered with the model's template and tokenized.
//
// Where a message says what looks like one of the model's control tokens, it stays text: control tokens are taken from
// the template's own bytes alone (chat_template/text.h). No error quotes a message.
#ifndef TANDEM_SCHEDULER_CHAT_PROMPT_H_
#define TANDEM_SCHEDULER_CHAT_PROMPT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "scheduler/chat_template/chat_template.h"
#include "scheduler/grpc_error.h"
#include "scheduler/tokenizer/tokenizer.h"
#include "tandem/v1/inference.pb.h"

namespace tandem::scheduler {

// All that can be told without rendering. Cheap: no JSON is parsed.
std::optional<Error> ValidateChat(const v1::ChatPrompt& chat);

// The prompt of a conversation. The error is why there is none.
// REQUIRES: ValidateChat found nothing.
std::optional<Error> RenderChat(const v1::ChatPrompt& chat, const chat::ChatTemplate& chat_template,
                                chat::Text* prompt);

// The ids of such a prompt. As Tokenizer::Encode; a template writes the model's beginning itself, so none is added.
absl::StatusOr<std::vector<int32_t>> EncodeChat(const chat::Text& prompt, const tokenizer::Tokenizer& tokenizer,
                                                size_t max_tokens);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_CHAT_PROMPT_H_
