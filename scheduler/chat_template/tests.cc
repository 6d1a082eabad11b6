#include <algorithm>

#include "absl/strings/str_cat.h"
#include "scheduler/chat_template/builtins.h"
#include "scheduler/chat_template/operators.h"
#include "scheduler/chat_template/print.h"

namespace tandem::chat {
namespace {

using Kind = Value::Kind;

constexpr absl::string_view kWithoutArguments[] = {"boolean", "callable", "defined", "even",    "false",     "float",
                                                   "integer", "iterable", "lower",   "mapping", "none",      "number",
                                                   "odd",     "sequence", "string",  "true",    "undefined", "upper"};

struct Comparison {
  absl::string_view name, op;
};
constexpr Comparison kComparisons[] = {
    {"==", "=="},      {"eq", "=="},         {"equalto", "=="}, {"!=", "!="}, {"ne", "!="}, {">", ">"},
    {"gt", ">"},       {"greaterthan", ">"}, {">=", ">="},      {"ge", ">="}, {"<", "<"},   {"lt", "<"},
    {"lessthan", "<"}, {"<=", "<="},         {"le", "<="},      {"in", "in"},
};

bool Is(absl::string_view test, const Value& value, Call& call) {
  if (test == "boolean") return value.Is(Kind::kBool);
  if (test == "callable") return value.Is(Kind::kFunction);
  if (test == "defined") return value.defined();
  if (test == "undefined") return !value.defined();
  if (test == "none") return value.Is(Kind::kNone);
  if (test == "true" || test == "false") return value.Is(Kind::kBool) && (value.AsInt() != 0) == (test == "true");
  if (test == "integer") return value.Is(Kind::kInt);
  if (test == "float") return value.Is(Kind::kFloat);
  if (test == "number") return value.is_number();
  if (test == "string") return value.is_string();
  if (test == "mapping") return value.Is(Kind::kDict);
  // Python's mappings have a length and can be indexed, so they count.
  if (test == "sequence") return value.is_string() || value.is_sequence() || value.Is(Kind::kDict) || !value.defined();
  if (test == "iterable") return value.is_string() || value.is_sequence() || value.Is(Kind::kDict) || !value.defined();
  if (test == "odd" || test == "even") {
    const Value rest = Arithmetic("%", value, Value::Int(2), call);
    return Equal(rest, Value::Int(test == "odd" ? 1 : 0));
  }
  const auto method = FindMethod(Value::String(Str(value, &call.budget())), absl::StrCat("is", test));
  return method->function().run(call).Truthy();
}

bool Listed(absl::string_view name) {
  return std::find(std::begin(kWithoutArguments), std::end(kWithoutArguments), name) != std::end(kWithoutArguments);
}

const Comparison* FindComparison(absl::string_view name) {
  const auto* at = std::find_if(std::begin(kComparisons), std::end(kComparisons),
                                [&](const Comparison& c) { return c.name == name; });
  return at == std::end(kComparisons) ? nullptr : at;
}

}  // namespace

bool IsTest(absl::string_view name) {
  return Listed(name) || FindComparison(name) != nullptr || name == "divisibleby" || name == "sameas";
}

bool RunTest(absl::string_view name, const Value& input, Call& call) {
  if (Listed(name)) {
    call.Accept(name, {});
    return Is(name, input, call);
  }
  call.Accept(name, {"other"});
  const Value other = call.Get(0);
  if (const Comparison* comparison = FindComparison(name)) return Compare(comparison->op, input, other, call);
  if (name == "divisibleby") return Equal(Arithmetic("%", input, other, call), Value::Int(0));
  // Only these are one object each in Python; for others "the same" is a matter of its memory.
  const bool single = input.Is(Kind::kNone) || input.Is(Kind::kBool) || !input.defined();
  return single && input.kind() == other.kind() && Equal(input, other);
}

}  // namespace tandem::chat
