// One template: parsed once, rendered often.
//
//   Parse("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}") -> Render({messages: [...]})
//
// The language is the part of jinja2 that chat templates use, set up as transformers sets it up; equal input gives an
// equal prompt, byte for byte. Immutable; any thread may render.
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_TEMPLATE_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_TEMPLATE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "scheduler/chat_template/budget.h"
#include "scheduler/chat_template/syntax.h"
#include "scheduler/chat_template/text.h"
#include "scheduler/chat_template/value.h"

namespace tandem::chat {

class Template {
 public:
  // INVALID_ARGUMENT: "line N: reason", for what is no template and for what this engine cannot render.
  static absl::StatusOr<Template> Parse(absl::string_view source);

  // INVALID_ARGUMENT: an error in the template or in what it was given. FAILED_PRECONDITION: the template says no
  // (raise_exception). RESOURCE_EXHAUSTED: a limit. All begin with "line N: " and hold nothing that was given.
  // `now` is what strftime_now shows, in local time. REQUIRES: the keys of `variables` are strings.
  absl::StatusOr<Text> Render(const Dict& variables, const Limits& limits, absl::Time now) const;

 private:
  explicit Template(Block tree) : tree_(std::make_shared<const Block>(std::move(tree))) {}

  std::shared_ptr<const Block> tree_;
};

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_TEMPLATE_H_
