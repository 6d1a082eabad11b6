// namespace(): the one value of a template that can be assigned to, and so the way out of a loop's scope.
//
// Holds data only, so that none can contain itself. A name that begins with '_' is refused, as transformers refuses it.
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_NAMESPACE_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_NAMESPACE_H_

#include <optional>
#include <utility>

#include "absl/strings/string_view.h"
#include "scheduler/chat_template/value.h"

namespace tandem::chat {

class Namespace final : public Object {
 public:
  std::optional<Value> Get(absl::string_view name) const override {
    const Value* found = values_.Find(name);
    return found == nullptr ? std::nullopt : std::optional<Value>(*found);
  }
  bool Set(absl::string_view name, Value value) override {
    if (name.empty() || name.front() == '_' || value.depth() > Value::kDeepest) return false;
    return values_.Set(Value::Own(name), std::move(value));
  }

 private:
  Dict values_;
};

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_NAMESPACE_H_
