#include "scheduler/chat_template/template.h"

#include <utility>

#include "scheduler/chat_template/interpreter.h"
#include "scheduler/chat_template/parser.h"
#include "scheduler/tokenizer/utf8.h"

namespace tandem::chat {

absl::StatusOr<Template> Template::Parse(absl::string_view source) {
  if (tokenizer::FindInvalidUtf8(source)) return absl::InvalidArgumentError("line 1: the template is no valid UTF-8");
  auto tree = chat::Parse(source);
  if (!tree.ok()) return tree.status();
  return Template(*std::move(tree));
}

absl::StatusOr<Text> Template::Render(const Dict& variables, const Limits& limits, absl::Time now) const {
  Budget budget(limits);
  Text prompt = Interpreter(*tree_, &budget, now).Run(variables);
  if (!budget.ok()) return budget.status();
  return prompt;
}

}  // namespace tandem::chat
