// Methods of strings, mappings and lists, and what an index or a dot finds.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/chat_template/builtins.h"
#include "scheduler/chat_template/python_text.h"
#include "scheduler/tokenizer/utf8.h"

namespace tandem::chat {
namespace {

using Kind = Value::Kind;
using Method = Value (*)(const Value& self, Call& call);

struct Entry {
  absl::string_view name;
  Method run;
};

template <Side side>
Value RunStrip(const Value& self, Call& call) {
  call.Accept("strip", {"chars?"});
  const Value chars = call.Get(0);
  if (!chars.defined() || chars.Is(Kind::kNone)) return call.Make(Strip(self.text(), side, nullptr));
  const Text given = call.String(0);
  call.budget().Step(static_cast<int64_t>(given.size()));
  return call.Make(Strip(self.text(), side, &given.bytes()));
}

Value ListOf(std::vector<Text> parts, Call& call) {
  List items;
  if (!call.budget().Bytes(parts.size() * sizeof(Text))) return Value();
  for (Text& part : parts) items.push_back(Value::String(std::move(part)));
  return call.Make(std::move(items));
}

template <bool from_right>
Value RunSplit(const Value& self, Call& call) {
  call.Accept("split", {"sep?", "maxsplit?"});
  const int64_t most = call.Int(1, -1);
  call.budget().Step(static_cast<int64_t>(self.text().size() / 16));
  call.budget().Bytes(self.text().size());
  const Value separator = call.Get(0);
  if (!separator.defined() || separator.Is(Kind::kNone))
    return ListOf(Split(self.text(), nullptr, most, from_right), call);
  const Text given = call.String(0);
  if (given.empty()) return call.Fail("split by an empty string");
  return ListOf(Split(self.text(), &given.bytes(), most, from_right), call);
}

Value RunSplitLines(const Value& self, Call& call) {
  call.Accept("splitlines", {"keepends?"});
  call.budget().Bytes(self.text().size());
  return ListOf(SplitLines(self.text(), call.Flag(0, false)), call);
}

template <bool at_start>
Value RunAffix(const Value& self, Call& call) {
  call.Accept(at_start ? "startswith" : "endswith", {"affix"});
  const std::string& s = self.bytes();
  const auto has = [&](const std::string& affix) {
    return affix.size() <= s.size() && s.compare(at_start ? 0 : s.size() - affix.size(), affix.size(), affix) == 0;
  };
  const Value affix = call.Get(0);
  if (affix.is_string()) return Value::Bool(has(affix.bytes()));
  if (!affix.Is(Kind::kTuple)) return call.Fail(absl::StrCat("a string is needed, not ", affix.TypeName()));
  return Value::Bool(std::any_of(affix.items().begin(), affix.items().end(),
                                 [&](const Value& one) { return one.is_string() && has(one.bytes()); }));
}

template <bool at_start>
Value RemoveAffix(const Value& self, Call& call) {
  call.Accept(at_start ? "removeprefix" : "removesuffix", {"affix"});
  const Text affix = call.String(0);
  const std::string& s = self.bytes();
  if (affix.size() > s.size()) return self;
  const size_t at = at_start ? 0 : s.size() - affix.size();
  if (s.compare(at, affix.size(), affix.bytes()) != 0) return self;
  return call.Make(at_start ? self.text().Slice(affix.size(), s.size()) : self.text().Slice(0, at));
}

Value RunReplace(const Value& self, Call& call) {
  call.Accept("replace", {"old", "new", "count?"});
  const Text from = call.String(0), to = call.String(1);
  // As often as it can be found at most; what is not used is small beside what a template may spend.
  const size_t finds = self.text().size() / std::max<size_t>(from.size(), 1) + 1;
  call.budget().Step(static_cast<int64_t>(self.text().size() / 16));
  if (to.size() > from.size() && !call.budget().Bytes(std::min(finds, self.text().size() + 1) * to.size()))
    return Value();
  return call.Make(Replace(self.text(), from, to, call.Int(2, -1)));
}

template <std::string (*map)(absl::string_view)>
Value RunCase(const Value& self, Call& call) {
  call.Accept("a method that changes case", {});
  if (!call.budget().Step(static_cast<int64_t>(self.text().size() / 16))) return Value();
  return call.Make(self.text().Derived(map(self.bytes())));
}

// Every character passes, and at least one is there.
template <bool (*passes)(char32_t)>
Value RunAll(const Value& self, Call& call) {
  call.Accept("a method that tests characters", {});
  call.budget().Step(static_cast<int64_t>(self.text().size() / 16));
  for (size_t at = 0; at < self.bytes().size();) {
    if (!passes(tokenizer::TakeChar(self.bytes(), &at))) return Value::Bool(false);
  }
  return Value::Bool(!self.text().empty());
}
bool IsAlnum(char32_t c) { return IsAlpha(c) || IsDecimal(c); }

template <bool upper>
Value RunIsCase(const Value& self, Call& call) {
  call.Accept("a method that tests case", {});
  call.budget().Step(static_cast<int64_t>(self.text().size() / 16));
  bool any = false;
  for (size_t at = 0; at < self.bytes().size();) {
    const char32_t c = tokenizer::TakeChar(self.bytes(), &at);
    if (upper ? IsLower(c) : IsUpper(c)) return Value::Bool(false);
    any = any || (upper ? IsUpper(c) : IsLower(c));
  }
  return Value::Bool(any);
}

template <bool from_right, bool must>
Value RunFind(const Value& self, Call& call) {
  call.Accept("find", {"sub"});
  const Text what = call.String(0);
  call.budget().Step(static_cast<int64_t>(self.text().size() / 16));
  const size_t at = from_right ? self.bytes().rfind(what.bytes()) : self.bytes().find(what.bytes());
  if (at == std::string::npos) return must ? call.Fail("a substring is not there") : Value::Int(-1);
  return Value::Int(static_cast<int64_t>(CountChars(absl::string_view(self.bytes()).substr(0, at))));
}

Value RunCount(const Value& self, Call& call) {
  call.Accept("count", {"of"});
  int64_t count = 0;
  if (self.is_sequence()) {
    call.budget().Step(static_cast<int64_t>(self.items().size()));
    for (const Value& item : self.items()) count += Equal(item, call.Get(0)) ? 1 : 0;
    return Value::Int(count);
  }
  const Text what = call.String(0);
  call.budget().Step(static_cast<int64_t>(self.text().size() / 16));
  if (what.empty()) return Value::Int(static_cast<int64_t>(CountChars(self.bytes())) + 1);
  for (size_t at = self.bytes().find(what.bytes()); at != std::string::npos;
       at = self.bytes().find(what.bytes(), at + what.size())) {
    ++count;
  }
  return Value::Int(count);
}

Value RunJoin(const Value& self, Call& call) {
  call.Accept("join", {"iterable"});
  Text out;
  bool first = true;
  for (const Value& item : call.Iterate(call.Get(0))) {
    if (!item.is_string()) return call.Fail("join takes strings only");
    if (!call.budget().Bytes(item.text().size() + self.text().size())) return Value();
    if (!std::exchange(first, false)) out.Append(self.text());
    out.Append(item.text());
  }
  return Value::String(std::move(out));
}

template <bool from_right>
Value RunPartition(const Value& self, Call& call) {
  call.Accept("partition", {"sep"});
  const Text separator = call.String(0);
  if (separator.empty()) return call.Fail("partition by an empty string");
  const auto parts = Split(self.text(), &separator.bytes(), 1, from_right);
  const Value nothing = Value::Own("");
  if (parts.size() == 2) return call.MakeTuple({Value::String(parts[0]), call.Get(0), Value::String(parts[1])});
  return from_right ? call.MakeTuple({nothing, nothing, self}) : call.MakeTuple({self, nothing, nothing});
}

Value RunIndexOfItem(const Value& self, Call& call) {
  call.Accept("index", {"value"});
  call.budget().Step(static_cast<int64_t>(self.items().size()));
  for (size_t i = 0; i < self.items().size(); ++i) {
    if (Equal(self.items()[i], call.Get(0))) return Value::Int(static_cast<int64_t>(i));
  }
  return call.Fail("an element is not there");
}

Value RunGet(const Value& self, Call& call) {
  call.Accept("get", {"key", "default?"});
  if (const Value* found = self.dict().Find(call.Get(0))) return *found;
  return call.positional.size() > 1 ? call.Get(1) : Value::None();
}

enum class Part { kKeys, kValues, kItems };
template <Part part>
Value RunParts(const Value& self, Call& call) {
  call.Accept("items", {});
  List out;
  for (const auto& [key, value] : self.dict().entries()) {
    if (!call.budget().Step()) return Value();
    if constexpr (part == Part::kItems) {
      out.push_back(call.MakeTuple({key, value}));
    } else {
      out.push_back(part == Part::kKeys ? key : value);
    }
  }
  return call.Make(std::move(out));
}

Value RunCopy(const Value& self, Call& call) {
  call.Accept("copy", {});
  return self;  // no value changes
}

constexpr Entry kOfStrings[] = {
    {"strip", RunStrip<Side::kBoth>},
    {"lstrip", RunStrip<Side::kLeft>},
    {"rstrip", RunStrip<Side::kRight>},
    {"split", RunSplit<false>},
    {"rsplit", RunSplit<true>},
    {"splitlines", RunSplitLines},
    {"startswith", RunAffix<true>},
    {"endswith", RunAffix<false>},
    {"removeprefix", RemoveAffix<true>},
    {"removesuffix", RemoveAffix<false>},
    {"replace", RunReplace},
    {"upper", RunCase<Upper>},
    {"lower", RunCase<Lower>},
    {"capitalize", RunCase<Capitalize>},
    {"title", RunCase<Title>},
    {"isdigit", RunAll<IsDecimal>},
    {"isdecimal", RunAll<IsDecimal>},
    {"isalpha", RunAll<IsAlpha>},
    {"isalnum", RunAll<IsAlnum>},
    {"isspace", RunAll<IsPythonSpace>},
    {"isupper", RunIsCase<true>},
    {"islower", RunIsCase<false>},
    {"find", RunFind<false, false>},
    {"rfind", RunFind<true, false>},
    {"index", RunFind<false, true>},
    {"rindex", RunFind<true, true>},
    {"count", RunCount},
    {"join", RunJoin},
    {"partition", RunPartition<false>},
    {"rpartition", RunPartition<true>},
};
constexpr Entry kOfLists[] = {{"index", RunIndexOfItem}, {"count", RunCount}, {"copy", RunCopy}};
constexpr Entry kOfDicts[] = {{"get", RunGet},
                              {"keys", RunParts<Part::kKeys>},
                              {"values", RunParts<Part::kValues>},
                              {"items", RunParts<Part::kItems>},
                              {"copy", RunCopy}};
// Of a loop; loop.cc has them.
constexpr absl::string_view kOfObjects[] = {"cycle", "changed"};

template <typename Table>
const Entry* FindIn(const Table& table, absl::string_view name) {
  const auto* at = std::find_if(std::begin(table), std::end(table), [&](const Entry& e) { return e.name == name; });
  return at == std::end(table) ? nullptr : at;
}

}  // namespace

bool IsMethod(absl::string_view name) {
  return FindIn(kOfStrings, name) != nullptr || FindIn(kOfLists, name) != nullptr ||
         FindIn(kOfDicts, name) != nullptr ||
         std::find(std::begin(kOfObjects), std::end(kOfObjects), name) != std::end(kOfObjects);
}

std::optional<Value> FindMethod(const Value& self, absl::string_view name) {
  const Entry* entry = nullptr;
  if (self.is_string()) entry = FindIn(kOfStrings, name);
  if (self.is_sequence()) entry = FindIn(kOfLists, name);
  if (self.Is(Kind::kDict)) entry = FindIn(kOfDicts, name);
  if (entry == nullptr) return std::nullopt;
  return Value::MakeFunction(std::string(name), [self, run = entry->run](Call& call) { return run(self, call); });
}

Value GetItem(const Value& of, const Value& key) {
  if (of.Is(Kind::kDict)) {
    if (const Value* found = of.dict().Find(key)) return *found;
  } else if (key.Is(Kind::kInt) || key.Is(Kind::kBool)) {
    int64_t at = key.AsInt();
    if (of.is_sequence()) {
      const auto size = static_cast<int64_t>(of.items().size());
      if (at < 0) at += size;
      if (at >= 0 && at < size) return of.items()[static_cast<size_t>(at)];
    } else if (of.is_string()) {
      const auto size = static_cast<int64_t>(CountChars(of.bytes()));
      if (at < 0) at += size;
      if (at >= 0 && at < size) {
        const size_t begin = OffsetOf(of.bytes(), static_cast<size_t>(at));
        size_t end = begin;
        tokenizer::TakeChar(of.bytes(), &end);
        return Value::String(of.text().Slice(begin, end));
      }
    }
  }
  if (key.is_string()) {
    if (of.Is(Kind::kObject)) {
      if (auto found = of.object().Get(key.bytes())) return *std::move(found);
    }
    if (auto method = FindMethod(of, key.bytes())) return *std::move(method);
  }
  return Value::Undefined(absl::StrCat("an element of a ", of.TypeName()));
}

Value GetAttribute(const Value& of, absl::string_view name) {
  if (of.Is(Kind::kObject)) {
    if (auto found = of.object().Get(name)) return *std::move(found);
  }
  if (auto method = FindMethod(of, name)) return *std::move(method);
  if (of.Is(Kind::kDict)) {
    if (const Value* found = of.dict().Find(name)) return *found;
  }
  return Value::Undefined(absl::StrCat("'", name, "' of a ", of.TypeName()));
}

}  // namespace tandem::chat
