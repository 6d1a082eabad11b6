// A refusal or failure as HTTP clients are told it: status, and OpenAI's error object
// {"error": {"message", "type", "param", "code"}}.
#ifndef TANDEM_CLIENT_GATEWAY_API_ERROR_H_
#define TANDEM_CLIENT_GATEWAY_API_ERROR_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace tandem::gateway {

struct ApiError {
  int status = 400;
  std::string message;  // one sentence: what was asked, what there was, what to do; never text of a prompt
  std::string type = "invalid_request_error";
  std::string param;  // the field that is wrong; empty: null
  std::string code;   // stable, lower case; empty: null
  std::optional<absl::Duration> retry_after = {};
};

// The caller's mistakes.
ApiError InvalidParameter(absl::string_view param, absl::string_view message);
// What would change the answer's meaning and is not served: refused by its name, never ignored.
ApiError UnsupportedParameter(absl::string_view param, absl::string_view why);

// A failed call to the scheduler, by its reason and code.
ApiError FromStatus(const absl::Status& status);

// {"error": {...}}, one line.
std::string ErrorJson(const ApiError& error);

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_API_ERROR_H_
