#include "scheduler/chat_template/call.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "scheduler/tokenizer/utf8.h"

namespace tandem::chat {

void Call::Accept(absl::string_view callee, std::initializer_list<absl::string_view> names) {
  accepted_.assign(names.size(), Value());
  if (positional.size() > names.size()) {
    Fail(absl::StrCat(callee, " takes ", names.size(), " arguments, not ", positional.size()));
    return;
  }
  std::copy(positional.begin(), positional.end(), accepted_.begin());
  std::vector<bool> given(names.size(), false);
  std::fill_n(given.begin(), positional.size(), true);
  for (const auto& [name, value] : named) {
    const auto* at = std::find_if(names.begin(), names.end(),
                                  [&, &name = name](absl::string_view n) { return absl::StripSuffix(n, "?") == name; });
    if (at == names.end() || given[static_cast<size_t>(at - names.begin())]) {
      Fail(absl::StrCat(callee, " takes no further argument ", name));
      return;
    }
    accepted_[static_cast<size_t>(at - names.begin())] = value;
    given[static_cast<size_t>(at - names.begin())] = true;
  }
  for (size_t i = 0; i < names.size(); ++i) {
    const absl::string_view name = names.begin()[i];
    if (!given[i] && name.back() != '?') {
      Fail(absl::StrCat(callee, " needs the argument ", name));
      return;
    }
  }
}

Value Call::Get(size_t index) const { return index < accepted_.size() ? accepted_[index] : Value(); }

bool Call::Flag(size_t index, bool fallback) const {
  const Value value = Get(index);
  return value.defined() ? value.Truthy() : fallback;
}

int64_t Call::Int(size_t index, int64_t fallback) {
  const Value value = Get(index);
  if (!value.defined()) return fallback;
  if (value.Is(Value::Kind::kInt) || value.Is(Value::Kind::kBool)) return value.AsInt();
  Fail(absl::StrCat("a whole number is needed, not ", value.TypeName()));
  return fallback;
}

Text Call::String(size_t index, absl::string_view fallback) {
  const Value value = Get(index);
  if (!value.defined()) return Text(std::string(fallback));
  if (value.is_string()) return value.text();
  Fail(absl::StrCat("a string is needed, not ", value.TypeName()));
  return Text();
}

bool Call::MayHold(const Value& item) {
  if (item.depth() < Value::kDeepest) return true;
  Fail(item.depth() > Value::kDeepest ? absl::StrCat("a list or mapping cannot hold a ", item.TypeName())
                                      : "lists and mappings are nested too deeply");
  return false;
}

Value Call::Make(List items) {
  if (!budget_.Bytes(items.size() * sizeof(Value) + 64)) return Value();
  for (const Value& item : items) {
    if (!MayHold(item)) return Value();
  }
  return Value::MakeList(std::move(items));
}

Value Call::MakeTuple(List items) {
  if (!budget_.Bytes(items.size() * sizeof(Value) + 64)) return Value();
  for (const Value& item : items) {
    if (!MayHold(item)) return Value();
  }
  return Value::MakeTuple(std::move(items));
}

Value Call::Make(Dict dict) {
  if (!budget_.Bytes(dict.entries().size() * 4 * sizeof(Value) + 64)) return Value();
  for (const auto& [key, value] : dict.entries()) {
    if (!MayHold(value)) return Value();
  }
  return Value::MakeDict(std::move(dict));
}

List Call::Iterate(const Value& value) {
  List items;
  switch (value.kind()) {
    case Value::Kind::kUndefined:
      break;
    case Value::Kind::kList:
    case Value::Kind::kTuple:
      if (!budget_.Step(static_cast<int64_t>(value.items().size()))) break;
      return value.items();
    case Value::Kind::kDict:
      if (!budget_.Step(static_cast<int64_t>(value.dict().entries().size()))) break;
      for (const auto& [key, unused] : value.dict().entries()) items.push_back(key);
      break;
    case Value::Kind::kString: {
      const std::string& bytes = value.bytes();
      // A character as a value of its own is some fifty times its size.
      if (!budget_.Step(static_cast<int64_t>(bytes.size())) || !budget_.Bytes(bytes.size() * 64)) break;
      for (size_t at = 0; at < bytes.size();) {
        const size_t begin = at;
        tokenizer::TakeChar(bytes, &at);
        items.push_back(Value::String(value.text().Slice(begin, at)));
      }
      break;
    }
    default:
      Fail(absl::StrCat("a ", value.TypeName(), " cannot be iterated over"));
  }
  return items;
}

}  // namespace tandem::chat
