// Where a JSON value ends, and the parts of one as they were written.
//
// A parsed object has forgotten the order of its members. Where the text itself goes on, as the descriptions of tools
// go into a prompt, the order is part of what a model was trained on; so it is cut out of the body and not made anew.
// Nothing is allocated and no value is checked: what is cut out of valid JSON is valid JSON.
#ifndef TANDEM_CLIENT_GATEWAY_RAW_JSON_H_
#define TANDEM_CLIENT_GATEWAY_RAW_JSON_H_

#include <cstddef>
#include <optional>
#include <vector>

#include "absl/strings/string_view.h"

namespace tandem::gateway {

// Finds the end of what a text begins with in brackets, by its brackets and quotes alone. The text may grow between
// calls; what has been seen is not looked at again.
class ValueScan {
 public:
  enum class Syntax { kJson, kPython };  // Python has round brackets and single quotes too
  explicit ValueScan(Syntax syntax = Syntax::kJson) : python_(syntax == Syntax::kPython) {}

  // Nothing: it is not whole yet. REQUIRES: text[0] is an opening bracket, and what was there at the last call still
  // is.
  std::optional<size_t> End(absl::string_view text);

 private:
  size_t at_ = 0;
  int depth_ = 0;
  bool python_;
  char quote_ = 0;  // of the string that it is in
};

// The last member of this name of an object, as parsers take it. Nothing: there is none whose name is written like
// this. REQUIRES: `object` is valid JSON, an object; `name` needs no escapes.
std::optional<absl::string_view> RawMember(absl::string_view object, absl::string_view name);

// The elements of an array. REQUIRES: `array` is valid JSON, an array.
std::vector<absl::string_view> RawElements(absl::string_view array);

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_RAW_JSON_H_
