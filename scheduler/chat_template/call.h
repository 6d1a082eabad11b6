// The arguments of one call of a filter, test, method, function or macro, and what the callee needs to fail.
//
// Every getter may be called after a failure; what it returns then means nothing. Makers of strings and lists charge
// the budget, and return an empty value where it is spent.
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_CALL_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_CALL_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "scheduler/chat_template/budget.h"
#include "scheduler/chat_template/value.h"

namespace tandem::chat {

class Call {
 public:
  Call(Budget* budget, absl::Time now) : budget_(*budget), now_(now) {}

  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  Budget& budget() { return budget_; }
  absl::Time now() const { return now_; }

  // The callee takes these, in this order; anything else fails. A name ending in "?" may be left out.
  void Accept(absl::string_view callee, std::initializer_list<absl::string_view> names);

  // By Accept's order. Undefined where it is not given.
  Value Get(size_t index) const;
  bool Has(size_t index) const { return Get(index).defined(); }
  bool Flag(size_t index, bool fallback) const;
  int64_t Int(size_t index, int64_t fallback);
  // Fails for what is no string.
  Text String(size_t index, absl::string_view fallback = "");

  Value Fail(absl::string_view reason) {
    budget_.Fail(reason);
    return Value();
  }
  Value Make(Text text) {
    if (!budget_.Bytes(text.size() + sizeof(Text))) return Value();
    return Value::String(std::move(text));
  }
  Value Make(List items);
  Value MakeTuple(List items);
  Value Make(Dict dict);

  // What iterating over `value` visits: elements, keys, characters. Fails for what cannot be iterated over.
  List Iterate(const Value& value);

 private:
  bool MayHold(const Value& item);

  Budget& budget_;
  const absl::Time now_;
  std::vector<Value> accepted_;
};

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_CALL_H_
