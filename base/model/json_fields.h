// Reads fields of a JSON object with types and ranges checked, and remembers the first that is wrong.
//
// A caller reads all its fields in a row and looks at status() once; after an error every read returns its fallback.
// Messages name the file, the field, what it holds and what was expected.
#ifndef TANDEM_BASE_MODEL_JSON_FIELDS_H_
#define TANDEM_BASE_MODEL_JSON_FIELDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace tandem::model {

// Reads a whole file of at most `limit` bytes.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, int64_t limit);

// Parses an object. `where` is the file's name in messages. A key given twice is an error: readers differ in which one
// they believe.
absl::StatusOr<nlohmann::json> ParseJsonObject(absl::string_view text, absl::string_view where);

class JsonFields {
 public:
  // Both arguments outlive this object.
  JsonFields(const nlohmann::json& object, absl::string_view where) : object_(object), where_(where) {}

  // True for a field that is present and not null.
  bool Has(const char* key) const;

  int64_t Int(const char* key, int64_t lowest, int64_t highest);
  int64_t IntOr(const char* key, int64_t lowest, int64_t highest, int64_t fallback);
  double Number(const char* key, double lowest, double highest);
  double NumberOr(const char* key, double lowest, double highest, double fallback);
  bool BoolOr(const char* key, bool fallback);
  std::string StringOr(const char* key, absl::string_view fallback);
  std::vector<std::string> Strings(const char* key, size_t max_count);
  // One whole number or a list of them; null and absent are empty.
  std::vector<int32_t> IntOrList(const char* key, int64_t lowest, int64_t highest, size_t max_count);
  // An object, or null where it is absent or null.
  const nlohmann::json* Object(const char* key);

  void Refuse(absl::string_view message);
  const absl::Status& status() const { return status_; }

 private:
  const nlohmann::json* Find(const char* key) const;
  void WrongValue(const char* key, const nlohmann::json& value, absl::string_view expected);

  const nlohmann::json& object_;
  absl::string_view where_;
  absl::Status status_;
};

}  // namespace tandem::model

#endif  // TANDEM_BASE_MODEL_JSON_FIELDS_H_
