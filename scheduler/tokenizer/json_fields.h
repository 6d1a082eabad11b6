// Reads the members of one JSON object and insists on knowing all of them.
//
// A tokenizer.json is a program: a field that is not understood may change every id. So each reader takes the fields it
// knows and then calls Finish(), which reports the first wrong type, missing member or unknown member by its full path
// ("pre_tokenizer.pretokenizers[1].behavior"). After a failure the getters return defaults and change nothing, so that
// a reader is a plain list of fields.
//
// Borrows the JSON value. For one thread.
#ifndef TANDEM_SCHEDULER_TOKENIZER_JSON_FIELDS_H_
#define TANDEM_SCHEDULER_TOKENIZER_JSON_FIELDS_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::tokenizer {

using Json = nlohmann::json;

// Parses `text`; the error names what and the byte where parsing stopped, never the content.
absl::StatusOr<Json> ParseJson(absl::string_view text, absl::string_view what);

class JsonFields {
 public:
  JsonFields(const Json& value, std::string path);

  // Members that must be there.
  std::string String(const char* name);
  bool Bool(const char* name);
  int64_t Int(const char* name);
  const Json* Array(const char* name);   // null after a failure
  const Json* Object(const char* name);  // null after a failure
  const Json* Any(const char* name);     // null after a failure

  // Members that may be missing or null.
  std::string StringOr(const char* name, absl::string_view fallback);
  bool BoolOr(const char* name, bool fallback);
  const Json* AnyOrNull(const char* name);  // null where missing, null, or after a failure

  // Known, and without influence on ids or text as this program uses them.
  void Ignore(const char* name);

  // Takes a failure of the caller's own, e.g. a value out of range. The first failure stays.
  void Fail(const char* name, absl::string_view problem);

  const std::string& path() const { return path_; }
  std::string Path(const char* name) const;
  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }  // the first failure

  // The first failure, or a member that nobody asked for.
  absl::Status Finish();

 private:
  const Json* Find(const char* name, bool required);

  const Json& value_;
  std::string path_;
  std::vector<std::string> known_;
  absl::Status status_;
};

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_JSON_FIELDS_H_
