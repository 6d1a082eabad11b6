// The filters, tests, methods and functions that templates may use: those of jinja2 and Python's str, dict and list
// that have been seen in chat templates, with the same results. None of them changes a value.
//
//   filters.cc   {{ x | name(...) }}     methods.cc    {{ x.name(...) }}
//   tests.cc     {{ x is name(...) }}    functions.cc  {{ name(...) }}
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_BUILTINS_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_BUILTINS_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "scheduler/chat_template/call.h"
#include "scheduler/chat_template/value.h"

namespace tandem::chat {

bool IsFilter(absl::string_view name);
bool IsTest(absl::string_view name);
// Some type has a method of this name; it may be called on a value that turns out to be of another type.
bool IsMethod(absl::string_view name);
// A function of jinja2 that is not there.
bool IsRefusedFunction(absl::string_view name);

// REQUIRES: IsFilter(name) / IsTest(name).
Value RunFilter(absl::string_view name, const Value& input, Call& call);
bool RunTest(absl::string_view name, const Value& input, Call& call);

// The method, bound to `self`; null where its type has none of this name.
std::optional<Value> FindMethod(const Value& self, absl::string_view name);
std::optional<Value> FindFunction(absl::string_view name);

// What `of[key]` and `of.key` give: undefined where there is nothing.
Value GetItem(const Value& of, const Value& key);
Value GetAttribute(const Value& of, absl::string_view name);

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_BUILTINS_H_
