#include "scheduler/chat_template/json_value.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace tandem::chat {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kDeepestJson = 48;  // with room below Value::kDeepest for what a template builds around it

// Builds the value while the parser reads, so that no tree of the JSON stands beside it.
class Builder : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return Put(Value::None()); }
  bool boolean(bool b) override { return Put(Value::Bool(b)); }
  bool number_integer(number_integer_t i) override { return Put(Value::Int(i)); }
  bool number_unsigned(number_unsigned_t u) override {
    if (u > static_cast<uint64_t>(INT64_MAX)) return Refuse("has a whole number beyond 64 bits");
    return Put(Value::Int(static_cast<int64_t>(u)));
  }
  bool number_float(number_float_t d, const string_t& text) override {
    if (text.find_first_of(".eE") == std::string::npos) return Refuse("has a whole number beyond 64 bits");
    return Put(Value::Float(d));
  }
  bool string(string_t& text) override { return Put(Value::String(Text::Given(std::move(text)))); }
  bool binary(binary_t&) override { return Refuse("is no JSON text"); }
  bool start_object(size_t) override { return Open(true); }
  bool start_array(size_t) override { return Open(false); }
  bool key(string_t& name) override {
    open_.back().key = Value::String(Text::Given(std::move(name)));
    return true;
  }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return Refuse(absl::StrCat("is no JSON: an error at byte ", position));
  }

  Value Take() { return std::move(done_); }
  const std::string& reason() const { return reason_; }

 private:
  struct Container {
    bool is_object;
    Value key;
    List items;
    Dict dict;
  };

  bool Refuse(std::string reason) {
    if (reason_.empty()) reason_ = std::move(reason);
    return false;
  }
  bool Open(bool is_object) {
    if (open_.size() >= kDeepestJson) return Refuse(absl::StrCat("nests more than ", kDeepestJson, " levels"));
    open_.push_back({is_object, Value(), {}, {}});
    return true;
  }
  bool Close() {
    Container last = std::move(open_.back());
    open_.pop_back();
    return Put(last.is_object ? Value::MakeDict(std::move(last.dict)) : Value::MakeList(std::move(last.items)));
  }
  bool Put(Value value) {
    if (open_.empty()) {
      done_ = std::move(value);
    } else if (open_.back().is_object) {
      open_.back().dict.Set(open_.back().key, std::move(value));
    } else {
      open_.back().items.push_back(std::move(value));
    }
    return true;
  }

  std::vector<Container> open_;
  Value done_;
  std::string reason_;
};

}  // namespace

absl::StatusOr<Value> ParseJsonValue(absl::string_view json, absl::string_view what) {
  Builder builder;
  if (Json::sax_parse(json.begin(), json.end(), &builder)) return builder.Take();
  return absl::InvalidArgumentError(
      absl::StrCat(what, " ", builder.reason().empty() ? "is no JSON" : builder.reason()));
}

}  // namespace tandem::chat
