// Small words of HTTP: paths, ids, phrases.
#ifndef TANDEM_CLIENT_GATEWAY_HTTP_TEXT_H_
#define TANDEM_CLIENT_GATEWAY_HTTP_TEXT_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "client/gateway/api_error.h"
#include "client/gateway/http.h"

namespace tandem::gateway {

// "/v1/models/a%2Fb?x=y" -> "/v1/models/a/b". Nothing where it does not begin with '/' or an escape is malformed.
std::optional<std::string> DecodePath(absl::string_view target);

// `given` where it is harmless in headers and logs (letters, digits, "._:-", at most 128), else 32 random hex digits.
std::string RequestId(absl::string_view given);

const char* ReasonPhrase(int status);

// Retry-After in whole seconds, and the exact milliseconds as openai-python reads them.
Headers RetryHeaders(const ApiError& error);
HttpResponse ToResponse(const ApiError& error);

// What an answer that was cut off ends with.
ApiError CutError(Cut cut);

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_HTTP_TEXT_H_
