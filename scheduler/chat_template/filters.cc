#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "scheduler/chat_template/builtins.h"
#include "scheduler/chat_template/operators.h"
#include "scheduler/chat_template/print.h"
#include "scheduler/chat_template/python_text.h"

namespace tandem::chat {
namespace {

using Kind = Value::Kind;
using Filter = Value (*)(const Value& input, Call& call);

Value NoneAsMissing(const Value& value) { return value.Is(Kind::kNone) ? Value() : value; }

// "a.b.0" of an item; undefined where a part is.
Value Attribute(Value item, const Value& path, Call& call) {
  if (!path.defined()) return item;
  if (!path.is_string()) return GetItem(item, path);
  for (absl::string_view part : absl::StrSplit(absl::string_view(path.bytes()), '.')) {
    if (!call.budget().Step()) return Value();
    if (!item.defined()) return call.Fail(absl::StrCat(item.undefined_name(), " is undefined"));
    int64_t index = 0;
    const bool number = std::all_of(part.begin(), part.end(), absl::ascii_isdigit) && absl::SimpleAtoi(part, &index);
    item = GetItem(item, number ? Value::Int(index) : Value::Own(part));
  }
  return item;
}

// What strings are sorted by, unless case counts.
Value Folded(Value value, bool case_sensitive, Call& call) {
  if (case_sensitive || !value.is_string()) return value;
  return call.Make(Text(Lower(value.bytes())));
}

Value RunString(const Value& input, Call& call) {
  call.Accept("string", {});
  return call.Make(Str(input, &call.budget()));
}

template <std::string (*map)(absl::string_view)>
Value RunCase(const Value& input, Call& call) {
  call.Accept("a filter that changes case", {});
  const Text text = Str(input, &call.budget());
  if (!call.budget().Step(static_cast<int64_t>(text.size() / 16))) return Value();
  return call.Make(text.Derived(map(text.bytes())));
}

Value RunTrim(const Value& input, Call& call) {
  call.Accept("trim", {"chars?"});
  const Text text = Str(input, &call.budget());
  if (!NoneAsMissing(call.Get(0)).defined()) return call.Make(Strip(text, Side::kBoth, nullptr));
  const Text chars = call.String(0);
  return call.Make(Strip(text, Side::kBoth, &chars.bytes()));
}

Value RunReplace(const Value& input, Call& call) {
  call.Accept("replace", {"old", "new", "count?"});
  const Text text = Str(input, &call.budget());
  const Text from = Str(call.Get(0), &call.budget()), to = Str(call.Get(1), &call.budget());
  const size_t finds = text.size() / std::max<size_t>(from.size(), 1) + 1;
  if (to.size() > from.size() && !call.budget().Bytes(std::min(finds, text.size() + 1) * to.size())) return Value();
  call.budget().Step(static_cast<int64_t>(text.size() / 16));
  const int64_t most = NoneAsMissing(call.Get(2)).defined() ? call.Int(2, -1) : -1;
  return call.Make(Replace(text, from, to, most));
}

Value RunIndent(const Value& input, Call& call) {
  call.Accept("indent", {"width?", "first?", "blank?"});
  const Value width = call.Get(0);
  const int64_t spaces = width.is_string() ? 0 : std::clamp<int64_t>(call.Int(0, 4), 0, 4096);
  const Text indent = width.is_string() ? width.text() : Text(std::string(static_cast<size_t>(spaces), ' '));
  const bool blank = call.Flag(2, false);
  if (!input.is_string()) return call.Fail(absl::StrCat("a string is needed, not ", input.TypeName()));
  Text text = input.text();
  text.Append("\n");
  Text out;
  bool first = true;
  for (const Text& line : SplitLines(text, false)) {
    if (!call.budget().Bytes(indent.size() + line.size() + 1)) return Value();
    if (!first) out.Append("\n");
    if (first ? call.Flag(1, false) : blank || !line.empty()) out.Append(indent);
    out.Append(line);
    first = false;
  }
  return call.Make(std::move(out));
}

Value RunLength(const Value& input, Call& call) {
  call.Accept("length", {});
  if (!input.defined()) return Value::Int(0);
  if (input.is_string()) {
    call.budget().Step(static_cast<int64_t>(input.text().size() / 64));
    return Value::Int(static_cast<int64_t>(CountChars(input.bytes())));
  }
  if (input.is_sequence()) return Value::Int(static_cast<int64_t>(input.items().size()));
  if (input.Is(Kind::kDict)) return Value::Int(static_cast<int64_t>(input.dict().entries().size()));
  return call.Fail(absl::StrCat("a ", input.TypeName(), " has no length"));
}

Value RunDefault(const Value& input, Call& call) {
  call.Accept("default", {"default_value?", "boolean?"});
  if (input.defined() && (!call.Flag(1, false) || input.Truthy())) return input;
  return call.positional.empty() && call.named.empty() ? Value::Own("") : call.Get(0);
}

template <bool last>
Value RunEnd(const Value& input, Call& call) {
  call.Accept(last ? "last" : "first", {});
  const List items = call.Iterate(input);
  if (items.empty()) return Value::Undefined("an element of an empty sequence");
  return last ? items.back() : items.front();
}

Value RunList(const Value& input, Call& call) {
  call.Accept("list", {});
  return call.Make(call.Iterate(input));
}

Value RunReverse(const Value& input, Call& call) {
  call.Accept("reverse", {});
  if (input.is_string()) return Slice(input, Value(), Value(), Value::Int(-1), call);
  List items = call.Iterate(input);
  std::reverse(items.begin(), items.end());
  return call.Make(std::move(items));
}

Value RunItems(const Value& input, Call& call) {
  call.Accept("items", {});
  if (!input.defined()) return call.Make(List());
  if (!input.Is(Kind::kDict)) return call.Fail("items needs a mapping");
  List out;
  for (const auto& [key, value] : input.dict().entries()) out.push_back(call.MakeTuple({key, value}));
  return call.Make(std::move(out));
}

Value RunJoin(const Value& input, Call& call) {
  call.Accept("join", {"d?", "attribute?"});
  const Text between = call.Has(0) ? Str(call.Get(0), &call.budget()) : Text();
  Text out;
  bool first = true;
  for (const Value& item : call.Iterate(input)) {
    const Text text = Str(Attribute(item, NoneAsMissing(call.Get(1)), call), &call.budget());
    if (!call.budget().Bytes(between.size() + text.size()) || !call.budget().Step()) return Value();
    if (!std::exchange(first, false)) out.Append(between);
    out.Append(text);
  }
  return Value::String(std::move(out));
}

Value RunInt(const Value& input, Call& call) {
  call.Accept("int", {"default?", "base?"});
  const Value fallback = call.Has(0) ? call.Get(0) : Value::Int(0);
  if (call.Int(1, 10) != 10) return call.Fail("int knows the base 10 only");
  if (!input.defined()) return call.Fail(absl::StrCat(input.undefined_name(), " is undefined"));
  double number = 0;
  if (input.Is(Kind::kInt) || input.Is(Kind::kBool)) return Value::Int(input.AsInt());
  if (input.is_string()) {
    const std::string text = Strip(Text(input.bytes()), Side::kBoth, nullptr).bytes();
    int64_t whole = 0;
    if (absl::SimpleAtoi(text, &whole)) return Value::Int(whole);
    if (!absl::SimpleAtod(text, &number)) return fallback;
  } else if (input.Is(Kind::kFloat)) {
    number = input.AsFloat();
  } else {
    return fallback;
  }
  if (!std::isfinite(number)) return fallback;
  if (std::abs(number) >= 9.2e18) return call.Fail("a whole number beyond 64 bits");
  return Value::Int(static_cast<int64_t>(number));
}

Value RunFloat(const Value& input, Call& call) {
  call.Accept("float", {"default?"});
  const Value fallback = call.Has(0) ? call.Get(0) : Value::Float(0);
  if (!input.defined()) return call.Fail(absl::StrCat(input.undefined_name(), " is undefined"));
  if (input.is_number()) return Value::Float(input.AsFloat());
  double number = 0;
  if (input.is_string() && absl::SimpleAtod(Strip(Text(input.bytes()), Side::kBoth, nullptr).bytes(), &number)) {
    return Value::Float(number);
  }
  return fallback;
}

Value RunAbs(const Value& input, Call& call) {
  call.Accept("abs", {});
  if (!input.is_number()) return call.Fail(absl::StrCat("a number is needed, not ", input.TypeName()));
  return input.AsFloat() < 0 ? Negate(input, call) : input.Is(Kind::kBool) ? Value::Int(input.AsInt()) : input;
}

Value RunRound(const Value& input, Call& call) {
  call.Accept("round", {"precision?", "method?"});
  const int64_t digits = call.Int(0, 0);
  const std::string method = call.String(1, "common").bytes();
  if (!input.is_number()) return call.Fail(absl::StrCat("a number is needed, not ", input.TypeName()));
  if (digits < 0 || digits > 15) return call.Fail("round knows 0 to 15 digits");
  if (method == "common") {
    if (!input.Is(Kind::kFloat)) return Value::Int(input.AsInt());
    double rounded = 0;
    // printf rounds the exact value half to even, which is what Python does.
    if (!absl::SimpleAtod(absl::StrFormat("%.*f", static_cast<int>(digits), input.AsFloat()), &rounded)) return input;
    return Value::Float(rounded);
  }
  const double scale = std::pow(10.0, static_cast<double>(digits)), scaled = input.AsFloat() * scale;
  if (method == "ceil") return Value::Float(std::ceil(scaled) / scale);
  if (method == "floor") return Value::Float(std::floor(scaled) / scale);
  return call.Fail("round knows the methods common, ceil and floor");
}

Value RunToJson(const Value& input, Call& call) {
  call.Accept("tojson", {"ensure_ascii?", "indent?", "separators?", "sort_keys?"});
  JsonStyle style;
  style.ensure_ascii = call.Flag(0, false);
  style.sort_keys = call.Flag(3, false);
  const Value indent = NoneAsMissing(call.Get(1));
  if (indent.defined()) {
    style.indented = true;
    style.item_separator = std::string(1, ',');
    style.indent = indent.is_string()
                       ? indent.bytes()
                       : std::string(static_cast<size_t>(std::clamp<int64_t>(call.Int(1, 0), 0, 64)), ' ');
  }
  const Value separators = NoneAsMissing(call.Get(2));
  if (separators.defined()) {
    const bool pair = separators.is_sequence() && separators.items().size() == 2 && separators.items()[0].is_string() &&
                      separators.items()[1].is_string();
    if (!pair) return call.Fail("separators are two strings");
    style.item_separator = separators.items()[0].bytes();
    style.key_separator = separators.items()[1].bytes();
  }
  return call.Make(ToJson(input, style, &call.budget()));
}

// The items in the order of their keys; equal ones keep theirs. Fails where two cannot be compared.
List Sorted(List items, const List& keys, bool reverse, Call& call) {
  std::vector<size_t> order(items.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  bool comparable = true;
  for (const Value& key : keys) comparable = comparable && Less(key, keys[0]).has_value();
  if (!comparable) {
    call.Fail("elements of different types cannot be sorted");
    return items;
  }
  call.budget().Step(static_cast<int64_t>(items.size()) * 8);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return reverse ? Less(keys[b], keys[a]).value_or(false) : Less(keys[a], keys[b]).value_or(false);
  });
  List sorted;
  for (size_t i : order) sorted.push_back(std::move(items[i]));
  return sorted;
}

Value RunSort(const Value& input, Call& call) {
  call.Accept("sort", {"reverse?", "case_sensitive?", "attribute?"});
  const Value attribute = NoneAsMissing(call.Get(2));
  if (attribute.is_string() && attribute.bytes().find(',') != std::string::npos) {
    return call.Fail("sort by several attributes is not supported");
  }
  List items = call.Iterate(input), keys;
  for (const Value& item : items) {
    keys.push_back(Folded(Attribute(item, attribute, call), call.Flag(1, false), call));
    if (!call.budget().ok()) return Value();
  }
  return call.Make(Sorted(std::move(items), keys, call.Flag(0, false), call));
}

Value RunDictSort(const Value& input, Call& call) {
  call.Accept("dictsort", {"case_sensitive?", "by?", "reverse?"});
  if (!input.Is(Kind::kDict)) return call.Fail("dictsort needs a mapping");
  const std::string by = call.String(1, "key").bytes();
  if (by != "key" && by != "value") return call.Fail("dictsort sorts by key or value");
  List items, keys;
  for (const auto& [key, value] : input.dict().entries()) {
    items.push_back(call.MakeTuple({key, value}));
    keys.push_back(Folded(by == "key" ? key : value, call.Flag(0, false), call));
    if (!call.budget().Step()) return Value();
  }
  return call.Make(Sorted(std::move(items), keys, call.Flag(2, false), call));
}

Value RunUnique(const Value& input, Call& call) {
  call.Accept("unique", {"case_sensitive?", "attribute?"});
  List out;
  Dict seen;
  for (const Value& item : call.Iterate(input)) {
    if (!call.budget().Step()) return Value();
    const Value key = Folded(Attribute(item, NoneAsMissing(call.Get(1)), call), call.Flag(0, false), call);
    if (seen.Find(key) != nullptr) continue;
    if (!seen.Set(key, Value::None())) return call.Fail(absl::StrCat("a ", key.TypeName(), " cannot be a key"));
    out.push_back(item);
  }
  return call.Make(std::move(out));
}

template <bool largest>
Value RunExtreme(const Value& input, Call& call) {
  call.Accept(largest ? "max" : "min", {"case_sensitive?", "attribute?"});
  std::optional<Value> best, best_key;
  for (const Value& item : call.Iterate(input)) {
    if (!call.budget().Step()) return Value();
    const Value key = Folded(Attribute(item, NoneAsMissing(call.Get(1)), call), call.Flag(0, false), call);
    if (best && !Compare(largest ? ">" : "<", key, *best_key, call)) continue;
    best = item;
    best_key = key;
  }
  return best ? *best : Value::Undefined("an element of an empty sequence");
}

Value RunSum(const Value& input, Call& call) {
  call.Accept("sum", {"attribute?", "start?"});
  Value total = call.Has(1) ? call.Get(1) : Value::Int(0);
  for (const Value& item : call.Iterate(input)) {
    if (!call.budget().Step()) return Value();
    total = Arithmetic("+", total, Attribute(item, NoneAsMissing(call.Get(0)), call), call);
  }
  return total;
}

// The rest of `call`'s arguments behind the first `skip`, for a filter or test that it names.
Call Inner(const Call& call, Call& outer, size_t skip) {
  Call inner(&outer.budget(), outer.now());
  inner.positional.assign(call.positional.begin() + static_cast<long>(std::min(skip, call.positional.size())),
                          call.positional.end());
  inner.named = call.named;
  return inner;
}

Value RunMap(const Value& input, Call& call) {
  List out;
  if (call.positional.empty()) {
    call.Accept("map", {"attribute", "default?"});
    for (const Value& item : call.Iterate(input)) {
      Value value = Attribute(item, call.Get(0), call);
      if (!value.defined() && call.Has(1)) value = call.Get(1);
      if (!call.budget().Step()) return Value();
      out.push_back(std::move(value));
    }
    return call.Make(std::move(out));
  }
  const Value& name = call.positional[0];
  if (!name.is_string() || !IsFilter(name.bytes())) return call.Fail("map names a filter that is not supported");
  for (const Value& item : call.Iterate(input)) {
    Call inner = Inner(call, call, 1);
    if (!call.budget().Step()) return Value();
    if (!call.budget().Enter()) return Value();
    out.push_back(RunFilter(name.bytes(), item, inner));
    call.budget().Leave();
  }
  return call.Make(std::move(out));
}

template <bool keep, bool by_attribute>
Value RunSelect(const Value& input, Call& call) {
  const size_t skip = by_attribute ? 1 : 0;
  if (by_attribute && call.positional.empty()) return call.Fail("an attribute is needed");
  std::string test;
  if (call.positional.size() > skip) {
    const Value& name = call.positional[skip];
    if (!name.is_string() || !IsTest(name.bytes())) return call.Fail("select names a test that is not supported");
    test = name.bytes();
  }
  List out;
  for (const Value& item : call.Iterate(input)) {
    if (!call.budget().Step()) return Value();
    const Value subject = by_attribute ? Attribute(item, call.positional[0], call) : item;
    Call inner = Inner(call, call, skip + 1);
    const bool passes = test.empty() ? subject.Truthy() : RunTest(test, subject, inner);
    if (passes == keep) out.push_back(item);
  }
  return call.Make(std::move(out));
}

struct Entry {
  absl::string_view name;
  Filter run;
};
constexpr Entry kFilters[] = {
    {"abs", RunAbs},
    {"capitalize", RunCase<Capitalize>},
    {"count", RunLength},
    {"d", RunDefault},
    {"default", RunDefault},
    {"dictsort", RunDictSort},
    {"first", RunEnd<false>},
    {"float", RunFloat},
    {"indent", RunIndent},
    {"int", RunInt},
    {"items", RunItems},
    {"join", RunJoin},
    {"last", RunEnd<true>},
    {"length", RunLength},
    {"list", RunList},
    {"lower", RunCase<Lower>},
    {"map", RunMap},
    {"max", RunExtreme<true>},
    {"min", RunExtreme<false>},
    {"reject", RunSelect<false, false>},
    {"rejectattr", RunSelect<false, true>},
    {"replace", RunReplace},
    {"reverse", RunReverse},
    {"round", RunRound},
    {"safe", RunString},  // the parser has seen to it that nothing is added to its result
    {"select", RunSelect<true, false>},
    {"selectattr", RunSelect<true, true>},
    {"sort", RunSort},
    {"string", RunString},
    {"sum", RunSum},
    {"title", RunCase<TitleWords>},
    {"tojson", RunToJson},
    {"trim", RunTrim},
    {"unique", RunUnique},
    {"upper", RunCase<Upper>},
};

const Entry* FindFilter(absl::string_view name) {
  const auto* at =
      std::find_if(std::begin(kFilters), std::end(kFilters), [&](const Entry& e) { return e.name == name; });
  return at == std::end(kFilters) ? nullptr : at;
}

}  // namespace

bool IsFilter(absl::string_view name) { return FindFilter(name) != nullptr; }

Value RunFilter(absl::string_view name, const Value& input, Call& call) { return FindFilter(name)->run(input, call); }

}  // namespace tandem::chat
