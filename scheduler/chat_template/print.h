// Values as text: as Python prints them, as its repr() writes them, as JSON.
//
// All of them charge the budget for what they write. A text that holds anything given is wholly given, unless it is
// the one string that was printed.
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_PRINT_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_PRINT_H_

#include <string>

#include "scheduler/chat_template/budget.h"
#include "scheduler/chat_template/value.h"

namespace tandem::chat {

// str(value); undefined is nothing. Objects and functions fail: what Python prints for them is no part of a prompt.
Text Str(const Value& value, Budget* budget);

struct JsonStyle {
  bool ensure_ascii = false;
  std::string indent;  // of one level; used if `indented`
  bool indented = false;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};
// json.dumps(value).
Text ToJson(const Value& value, const JsonStyle& style, Budget* budget);

// repr() of a float: the shortest digits that read back as the same number.
std::string FloatText(double number);

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_PRINT_H_
