// Writing JSON by hand, where an answer is made thousands of times a second and its shape never changes.
#ifndef TANDEM_CLIENT_GATEWAY_JSON_TEXT_H_
#define TANDEM_CLIENT_GATEWAY_JSON_TEXT_H_

#include <string>

#include "absl/strings/string_view.h"

namespace tandem::gateway {

// Appends `text` as a JSON string with its quotes. What is no UTF-8 becomes U+FFFD, so that the result always parses.
void AppendJsonString(absl::string_view text, std::string* out);
std::string JsonString(absl::string_view text);

// The shortest decimal that reads back as `value`; JSON has no infinities and no NaN: null.
void AppendJsonNumber(double value, std::string* out);
void AppendJsonNumber(float value, std::string* out);

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_JSON_TEXT_H_
