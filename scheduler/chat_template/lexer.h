// Cuts a template's source into tokens, as jinja2 does with trim_blocks and lstrip_blocks set (transformers sets both):
//
//   - a newline directly behind %} or #} belongs to the tag; white space between the start of a line and {% or {# too
//   - "-" inside of a tag takes all white space on that side; "+" leaves it alone
//   - \r\n and \r are \n; one newline at the very end of the source is dropped
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_LEXER_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_LEXER_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "scheduler/chat_template/token.h"

namespace tandem::chat {

// The last token is kEnd. INVALID_ARGUMENT: "line N: reason". REQUIRES: `source` is valid UTF-8.
absl::StatusOr<std::vector<Token>> Tokenize(absl::string_view source);

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_LEXER_H_
