// Makes a tree of a template's tokens, by jinja2's grammar.
//
// What this engine does not have is refused here, by name and line, rather than when a request meets it: unknown
// filters, tests and methods, {% include %} and its kin, *arguments.
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_PARSER_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_PARSER_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "scheduler/chat_template/syntax.h"

namespace tandem::chat {

// INVALID_ARGUMENT: "line N: reason". REQUIRES: `source` is valid UTF-8.
absl::StatusOr<Block> Parse(absl::string_view source);

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_PARSER_H_
