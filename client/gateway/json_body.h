// Reading a request's body: JSON within bounds, then its fields by name.
//
// Bounds come before parsing: a text that is too deep or has too many values is refused by a scan that allocates
// nothing, so that 16 MiB of brackets cost no more than 16 MiB. null is the same as absent everywhere, as clients send
// it for what they do not set. Unknown fields are tolerated. Messages name fields and numbers, never contents.
#ifndef TANDEM_CLIENT_GATEWAY_JSON_BODY_H_
#define TANDEM_CLIENT_GATEWAY_JSON_BODY_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/gateway/api_error.h"
#include "client/gateway/http.h"

namespace tandem::gateway {

inline constexpr int kDeepestJson = 32;
inline constexpr size_t kMostJsonValues = 1 << 20;  // 16 bytes each: a batch of prompts in token ids

// The body as an object.
std::variant<nlohmann::json, ApiError> ParseBody(absl::string_view body);

// The members of an object. The first thing that is wrong is kept; what is asked after it answers as if absent, so a
// parser reads straight down and looks at error() once.
class Fields {
 public:
  // `path` goes before names in messages: "stream_options." `text` is what the object was parsed from, where a caller
  // wants members as they were written. REQUIRES: `object` is one; both outlive this.
  explicit Fields(const nlohmann::json& object, std::string path = "", absl::string_view text = "");

  // Null where the member is absent or null.
  const nlohmann::json* Find(const char* name) const;
  bool Has(const char* name) const { return Find(name) != nullptr; }

  std::optional<double> Number(const char* name);
  std::optional<int64_t> Integer(const char* name, int64_t least, int64_t most);
  std::optional<bool> Boolean(const char* name);
  std::optional<std::string> String(const char* name);
  // A member that must be there and not be empty.
  std::string RequiredString(const char* name);
  // A string, or an array of strings.
  std::vector<std::string> Strings(const char* name, size_t most);
  // An object to look into; null where absent.
  const nlohmann::json* Object(const char* name);
  // A member's JSON as it was written, in its own order of keys. REQUIRES: Has(name).
  std::string Written(const char* name) const;

  void Fail(ApiError error);
  void Fail(const char* name, absl::string_view what);  // "NAME what"
  const std::optional<ApiError>& error() const { return error_; }

 private:
  const nlohmann::json& object_;
  const std::string path_;
  const absl::string_view text_;
  std::optional<ApiError> error_;
};

// Parses the body as `parser` reads it, and lets go of the text.
template <typename Request>
std::variant<Request, ApiError> ParseWith(std::variant<Request, ApiError> (*parser)(const nlohmann::json& body),
                                          HttpRequest& http) {
  const std::string body = std::exchange(http.body, {});
  const auto json = ParseBody(body);
  if (const auto* error = std::get_if<ApiError>(&json)) return *error;
  return parser(std::get<nlohmann::json>(json));
}

// The same for a parser that also wants the text.
template <typename Request>
std::variant<Request, ApiError> ParseWith(std::variant<Request, ApiError> (*parser)(const nlohmann::json& body,
                                                                                    absl::string_view text),
                                          HttpRequest& http) {
  const std::string body = std::exchange(http.body, {});
  const auto json = ParseBody(body);
  if (const auto* error = std::get_if<ApiError>(&json)) return *error;
  return parser(std::get<nlohmann::json>(json), body);
}

// "a string", "an array", ... for messages.
const char* KindOf(const nlohmann::json& value);

// Token ids in [0, 2^32). Nothing: not an array of those.
std::optional<std::vector<uint32_t>> TokenIds(const nlohmann::json& value);

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_JSON_BODY_H_
