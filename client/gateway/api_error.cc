#include "client/gateway/api_error.h"

#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/error.h"
#include "client/gateway/json_text.h"

namespace tandem::gateway {
namespace {

int HttpStatus(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kAlreadyExists:
      return 409;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kCancelled:
      return 499;
    case absl::StatusCode::kUnimplemented:
      return 501;
    case absl::StatusCode::kUnavailable:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

const char* TypeOf(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 429:
      return "rate_limit_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

// "sampling.top_p" is the scheduler's name for what the caller knows as "top_p".
std::string ParamOf(std::string field) {
  for (const char* prefix : {"sampling.", "stopping."}) {
    if (absl::StartsWith(field, prefix)) field.erase(0, strlen(prefix));
  }
  return field == "text" || field == "token_ids" ? "prompt" : field;
}

// What the scheduler says of calls, in the words of who knows routes.
std::string InRoutes(const std::string& message) {
  return absl::StrReplaceAll(message, {{"does not answer Generate", "does not complete text"},
                                       {"does not answer Embed", "does not answer /v1/embeddings"},
                                       {"does not answer Rerank", "does not answer /v1/rerank"},
                                       {"call Generate", "call /v1/chat/completions or /v1/completions"},
                                       {"call Embed", "call /v1/embeddings"},
                                       {"call Rerank", "call /v1/rerank"}});
}

}  // namespace

ApiError InvalidParameter(absl::string_view param, absl::string_view message) {
  return {.message = std::string(message), .param = std::string(param), .code = "invalid_parameter"};
}

ApiError UnsupportedParameter(absl::string_view param, absl::string_view why) {
  return {.message = absl::StrCat(param, " is not served: ", why),
          .param = std::string(param),
          .code = "unsupported_parameter"};
}

ApiError FromStatus(const absl::Status& status) {
  ApiError error;
  error.status = HttpStatus(status.code());
  error.type = TypeOf(error.status);
  error.message = absl::StrReplaceAll(std::string(status.message()), {{"sampling.", ""}, {"stopping.", ""}});
  error.code = absl::AsciiStrToLower(client::ErrorReason(status));
  error.retry_after = client::RetryDelay(status);
  if (client::Unreachable(status)) {
    error.code = "scheduler_unreachable";
    error.retry_after = absl::Seconds(1);
  }
  const auto metadata = client::ErrorMetadata(status);
  if (const auto field = metadata.find("field"); field != metadata.end()) error.param = ParamOf(field->second);
  if (error.code == "model_not_found") error.param = "model";
  if (metadata.count("task") > 0) error.message = InRoutes(error.message);
  return error;
}

std::string ErrorJson(const ApiError& error) {
  const auto or_null = [](const std::string& text) { return text.empty() ? "null" : JsonString(text); };
  return absl::StrCat("{\"error\":{\"message\":", JsonString(error.message), ",\"type\":", JsonString(error.type),
                      ",\"param\":", or_null(error.param), ",\"code\":", or_null(error.code), "}}");
}

}  // namespace tandem::gateway
