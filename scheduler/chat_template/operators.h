// Python's operators on values. What Python refuses fails; integers have 64 bits and fail beyond.
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_OPERATORS_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_OPERATORS_H_

#include "absl/strings/string_view.h"
#include "scheduler/chat_template/call.h"
#include "scheduler/chat_template/value.h"

namespace tandem::chat {

// `op` is one of + - * / // % **.
Value Arithmetic(absl::string_view op, const Value& a, const Value& b, Call& call);
// `op` is one of == != < <= > >= in, and "not in".
bool Compare(absl::string_view op, const Value& a, const Value& b, Call& call);
bool Contains(const Value& in, const Value& what, Call& call);
Value Negate(const Value& value, Call& call);

// Python's [first:last:step] of a string, list or tuple; undefined bounds are left out.
Value Slice(const Value& of, const Value& first, const Value& last, const Value& step, Call& call);

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_OPERATORS_H_
