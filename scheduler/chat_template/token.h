// The pieces of a template's source, with white space control already applied.
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_TOKEN_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_TOKEN_H_

#include <cstdint>
#include <string>

namespace tandem::chat {

struct Token {
  enum class Kind {
    kData,         // text between tags
    kOutputBegin,  // {{
    kOutputEnd,    // }}
    kBlockBegin,   // {%
    kBlockEnd,     // %}
    kName,
    kString,  // escapes resolved
    kInt,
    kFloat,
    kOperator,
    kEnd,
  };
  Kind kind = Kind::kEnd;
  int line = 0;
  std::string text;  // of data, names, strings and operators
  int64_t number = 0;
  double real = 0;
};

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_TOKEN_H_
