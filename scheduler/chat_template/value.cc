#include "scheduler/chat_template/value.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace tandem::chat {
namespace {

// Equal keys have equal texts: 1, 1.0 and True are one key, as in Python.
std::optional<std::string> KeyText(const Value& key) {
  switch (key.kind()) {
    case Value::Kind::kString:
      return absl::StrCat("s", key.bytes());
    case Value::Kind::kNone:
      return "n";
    case Value::Kind::kBool:
    case Value::Kind::kInt:
      return absl::StrCat("i", key.AsInt());
    case Value::Kind::kFloat: {
      const double number = key.AsFloat();
      if (std::floor(number) == number && std::abs(number) < 9e15) {
        return absl::StrCat("i", static_cast<int64_t>(number));
      }
      return absl::StrCat("f", number);
    }
    default:
      return std::nullopt;
  }
}

}  // namespace

bool Dict::Set(const Value& key, Value value) {
  auto text = KeyText(key);
  if (!text) return false;
  const auto [at, is_new] = index_.try_emplace(*std::move(text), entries_.size());
  if (is_new) {
    entries_.emplace_back(key, std::move(value));
  } else {
    entries_[at->second].second = std::move(value);
  }
  return true;
}

const Value* Dict::Find(const Value& key) const {
  const auto text = KeyText(key);
  if (!text) return nullptr;
  const auto at = index_.find(*text);
  return at == index_.end() ? nullptr : &entries_[at->second].second;
}

const Value* Dict::Find(absl::string_view key) const {
  const auto at = index_.find(absl::StrCat("s", key));
  return at == index_.end() ? nullptr : &entries_[at->second].second;
}

Value::Items::Items(List items, bool is_tuple) : List(std::move(items)), tuple(is_tuple) {
  for (const Value& item : *this) depth = std::max(depth, 1 + item.depth());
}

Value::Mapping::Mapping(Dict dict) : Dict(std::move(dict)) {
  for (const auto& [key, value] : entries()) depth = std::max(depth, 1 + value.depth());
}

Value Value::Undefined(absl::string_view what) {
  return Value(Data(std::make_shared<const Hole>(Hole{std::string(what)})));
}
Value Value::MakeList(List items) { return Value(std::make_shared<const Items>(std::move(items), false)); }
Value Value::MakeTuple(List items) { return Value(std::make_shared<const Items>(std::move(items), true)); }
Value Value::MakeDict(Dict dict) { return Value(std::make_shared<const Mapping>(std::move(dict))); }
Value Value::MakeFunction(std::string name, std::function<Value(Call&)> run) {
  return Value(std::make_shared<const Function>(Function{std::move(name), std::move(run)}));
}

Value::Kind Value::kind() const {
  switch (data_.index()) {
    case 0:
      return Kind::kUndefined;
    case 1:
      return Kind::kNone;
    case 2:
      return Kind::kBool;
    case 3:
      return Kind::kInt;
    case 4:
      return Kind::kFloat;
    case 5:
      return Kind::kString;
    case 6:
      return std::get<std::shared_ptr<const Items>>(data_)->tuple ? Kind::kTuple : Kind::kList;
    case 7:
      return Kind::kDict;
    case 8:
      return Kind::kObject;
    default:
      return Kind::kFunction;
  }
}

int64_t Value::AsInt() const {
  if (const bool* b = std::get_if<bool>(&data_)) return *b;
  return std::get<int64_t>(data_);
}

double Value::AsFloat() const {
  if (const double* d = std::get_if<double>(&data_)) return *d;
  return static_cast<double>(AsInt());
}

bool Value::Truthy() const {
  switch (kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
      return AsFloat() != 0;
    case Kind::kString:
      return !text().empty();
    case Kind::kList:
    case Kind::kTuple:
      return !items().empty();
    case Kind::kDict:
      return !dict().entries().empty();
    default:
      return true;
  }
}

bool Value::AnyGiven() const {
  const auto given = [](const Value& value) { return value.AnyGiven(); };
  switch (kind()) {
    case Kind::kString:
      return !text().given().empty();
    case Kind::kList:
    case Kind::kTuple:
      return std::any_of(items().begin(), items().end(), given);
    case Kind::kDict:
      return std::any_of(dict().entries().begin(), dict().entries().end(),
                         [&](const auto& entry) { return given(entry.first) || given(entry.second); });
    default:
      return false;
  }
}

int Value::depth() const {
  switch (kind()) {
    case Kind::kList:
    case Kind::kTuple:
      return std::get<std::shared_ptr<const Items>>(data_)->depth;
    case Kind::kDict:
      return std::get<std::shared_ptr<const Mapping>>(data_)->depth;
    case Kind::kObject:
    case Kind::kFunction:
      return kDeepest + 1;
    default:
      return 0;
  }
}

absl::string_view Value::TypeName() const {
  static constexpr absl::string_view kNames[] = {"Undefined", "NoneType", "bool", "int",    "float",   "str",
                                                 "list",      "tuple",    "dict", "object", "function"};
  return kNames[static_cast<int>(kind())];
}

bool Equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.Is(Value::Kind::kFloat) || b.Is(Value::Kind::kFloat)) return a.AsFloat() == b.AsFloat();
    return a.AsInt() == b.AsInt();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Value::Kind::kUndefined:
    case Value::Kind::kNone:
      return true;
    case Value::Kind::kString:
      return a.bytes() == b.bytes();
    case Value::Kind::kList:
    case Value::Kind::kTuple:
      return std::equal(a.items().begin(), a.items().end(), b.items().begin(), b.items().end(), Equal);
    case Value::Kind::kDict: {
      if (a.dict().entries().size() != b.dict().entries().size()) return false;
      return std::all_of(a.dict().entries().begin(), a.dict().entries().end(), [&](const auto& entry) {
        const Value* other = b.dict().Find(entry.first);
        return other != nullptr && Equal(entry.second, *other);
      });
    }
    case Value::Kind::kObject:
      return &a.object() == &b.object();
    default:
      return &a.function() == &b.function();
  }
}

std::optional<bool> Less(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.Is(Value::Kind::kFloat) || b.Is(Value::Kind::kFloat)) return a.AsFloat() < b.AsFloat();
    return a.AsInt() < b.AsInt();
  }
  if (a.kind() != b.kind()) return std::nullopt;
  if (a.is_string()) return a.bytes() < b.bytes();  // the order of UTF-8 is that of code points
  if (!a.is_sequence()) return std::nullopt;
  for (size_t i = 0; i < a.items().size() && i < b.items().size(); ++i) {
    if (!Equal(a.items()[i], b.items()[i])) return Less(a.items()[i], b.items()[i]);
  }
  return a.items().size() < b.items().size();
}

}  // namespace tandem::chat
