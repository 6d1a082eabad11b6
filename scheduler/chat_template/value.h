// What a template computes with: the values of Python that chat templates touch.
//
// Values are immutable but for namespaces, which alone can be assigned to. Lists and mappings share their content, so
// a copy costs a pointer. A list or mapping holds data only (no namespace, macro or loop) and nests kDeepest levels at
// most: so no value contains itself, and recursion over one is bounded.
//
// Single-threaded, as a rendering is; a Value that is shared between threads must not be a namespace.
#ifndef TANDEM_SCHEDULER_CHAT_TEMPLATE_VALUE_H_
#define TANDEM_SCHEDULER_CHAT_TEMPLATE_VALUE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "scheduler/chat_template/text.h"

namespace tandem::chat {

class Value;
class Call;

using List = std::vector<Value>;

// In the order of insertion. Keys are strings, numbers, booleans or None, as in JSON and a little beyond.
class Dict {
 public:
  // False for a key that cannot be one; a key that is there gets the new value in its old place.
  bool Set(const Value& key, Value value);
  const Value* Find(const Value& key) const;
  const Value* Find(absl::string_view key) const;
  const std::vector<std::pair<Value, Value>>& entries() const { return entries_; }

 private:
  std::vector<std::pair<Value, Value>> entries_;
  absl::flat_hash_map<std::string, size_t> index_;
};

// Something with attributes: a namespace, or the state of a loop.
class Object {
 public:
  virtual ~Object() = default;
  // Null where there is no such attribute.
  virtual std::optional<Value> Get(absl::string_view name) const = 0;
  virtual bool Set(absl::string_view name, Value value) = 0;  // false: cannot be assigned to
};

// A macro, a method bound to its value, or a global function.
struct Function {
  std::string name;
  std::function<Value(Call&)> run;
};

class Value {
 public:
  static constexpr int kDeepest = 64;

  enum class Kind { kUndefined, kNone, kBool, kInt, kFloat, kString, kList, kTuple, kDict, kObject, kFunction };

  Value() : Value(Undefined("")) {}
  static Value Undefined(absl::string_view what);
  static Value None() { return Value(std::monostate()); }
  static Value Bool(bool b) { return Value(b); }
  static Value Int(int64_t i) { return Value(i); }
  static Value Float(double d) { return Value(d); }
  static Value String(Text text) { return Value(std::make_shared<const Text>(std::move(text))); }
  static Value Own(absl::string_view text) { return String(Text(std::string(text))); }
  // REQUIRES: no element is an object or function, or as deep as kDeepest; see depth().
  static Value MakeList(List items);
  static Value MakeTuple(List items);
  static Value MakeDict(Dict dict);
  static Value MakeObject(std::shared_ptr<Object> object) { return Value(std::move(object)); }
  static Value MakeFunction(std::string name, std::function<Value(Call&)> run);

  Kind kind() const;
  bool Is(Kind k) const { return kind() == k; }
  bool defined() const { return !Is(Kind::kUndefined); }
  bool is_string() const { return Is(Kind::kString); }
  bool is_number() const { return Is(Kind::kBool) || Is(Kind::kInt) || Is(Kind::kFloat); }
  bool is_sequence() const { return Is(Kind::kList) || Is(Kind::kTuple); }

  // REQUIRES: of the kind; AsInt and AsFloat take what is_number() takes.
  const std::string& undefined_name() const { return std::get<Missing>(data_)->name; }
  int64_t AsInt() const;
  double AsFloat() const;
  const Text& text() const { return *std::get<std::shared_ptr<const Text>>(data_); }
  const std::string& bytes() const { return text().bytes(); }
  const List& items() const { return *std::get<std::shared_ptr<const Items>>(data_); }
  const Dict& dict() const { return *std::get<std::shared_ptr<const Mapping>>(data_); }
  Object& object() const { return *std::get<std::shared_ptr<Object>>(data_); }
  const Function& function() const { return *std::get<std::shared_ptr<const Function>>(data_); }

  bool Truthy() const;
  // Some byte of it, or of what it holds, came from a request.
  bool AnyGiven() const;
  // Levels of lists and mappings; more than kDeepest for what none may hold.
  int depth() const;
  // How Python names its type: "str", "dict".
  absl::string_view TypeName() const;

 private:
  struct Hole {
    std::string name;
  };
  struct Items : List {
    Items(List items, bool is_tuple);
    bool tuple;
    int depth = 1;
  };
  struct Mapping : Dict {
    explicit Mapping(Dict dict);
    int depth = 1;
  };
  using Missing = std::shared_ptr<const Hole>;
  using Data = std::variant<Missing, std::monostate, bool, int64_t, double, std::shared_ptr<const Text>,
                            std::shared_ptr<const Items>, std::shared_ptr<const Mapping>, std::shared_ptr<Object>,
                            std::shared_ptr<const Function>>;
  explicit Value(Data data) : data_(std::move(data)) {}

  Data data_;
};

// Python's ==. Two undefined values are equal.
bool Equal(const Value& a, const Value& b);

// Python's < for numbers, strings and sequences of these; null for what it cannot order.
std::optional<bool> Less(const Value& a, const Value& b);

}  // namespace tandem::chat

#endif  // TANDEM_SCHEDULER_CHAT_TEMPLATE_VALUE_H_
