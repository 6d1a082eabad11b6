// The variable `loop` of {% for %}.
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_LOOP_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_LOOP_H_

#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/string_view.h"
#include "scheduler/chat_template/call.h"
#include "scheduler/chat_template/value.h"

namespace tandem::chat {

class Loop final : public Object, public std::enable_shared_from_this<Loop> {
 public:
  explicit Loop(List items) : items_(std::move(items)) {}

  const List& items() const { return items_; }
  void MoveTo(size_t index) { index_ = index; }

  std::optional<Value> Get(absl::string_view name) const override {
    const auto count = static_cast<int64_t>(items_.size()), at = static_cast<int64_t>(index_);
    if (name == "index") return Value::Int(at + 1);
    if (name == "index0") return Value::Int(at);
    if (name == "revindex") return Value::Int(count - at);
    if (name == "revindex0") return Value::Int(count - at - 1);
    if (name == "first") return Value::Bool(at == 0);
    if (name == "last") return Value::Bool(at == count - 1);
    if (name == "length") return Value::Int(count);
    if (name == "depth") return Value::Int(1);  // of recursive loops, which there are none of
    if (name == "depth0") return Value::Int(0);
    if (name == "previtem") return at > 0 ? items_[index_ - 1] : Value::Undefined("the item before the first");
    if (name == "nextitem") return at + 1 < count ? items_[index_ + 1] : Value::Undefined("the item behind the last");
    if (name == "cycle") {
      return Value::MakeFunction("cycle", [index = index_](Call& call) {
        if (call.positional.empty()) return call.Fail("cycle needs something to choose from");
        return call.positional[index % call.positional.size()];
      });
    }
    if (name == "changed") {
      return Value::MakeFunction("changed", [self = std::const_pointer_cast<Loop>(shared_from_this())](Call& call) {
        Value now = call.MakeTuple(call.positional);
        const bool changed = !self->seen_ || !Equal(*self->seen_, now);
        self->seen_ = std::move(now);
        return Value::Bool(changed);
      });
    }
    return std::nullopt;
  }
  bool Set(absl::string_view, Value) override { return false; }

 private:
  const List items_;
  size_t index_ = 0;
  std::optional<Value> seen_;  // by the last changed()
};

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_LOOP_H_
