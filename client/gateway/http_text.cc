#include "client/gateway/http_text.h"

#include <algorithm>
#include <random>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tandem::gateway {
namespace {

constexpr size_t kLongestId = 128;

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = absl::ascii_tolower(c);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

}  // namespace

std::optional<std::string> DecodePath(absl::string_view target) {
  // A proxy's form of the same path.
  for (absl::string_view scheme : {"http://", "https://"}) {
    if (!absl::StartsWithIgnoreCase(target, scheme)) continue;
    const size_t slash = target.find('/', scheme.size());
    target = slash == absl::string_view::npos ? "/" : target.substr(slash);
  }
  target = target.substr(0, target.find_first_of("?#"));
  if (!absl::StartsWith(target, "/")) return std::nullopt;
  std::string path;
  for (size_t i = 0; i < target.size(); ++i) {
    if (target[i] != '%') {
      path.push_back(target[i]);
      continue;
    }
    if (i + 2 >= target.size()) return std::nullopt;
    const int high = HexDigit(target[i + 1]), low = HexDigit(target[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    path.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return path;
}

std::string RequestId(absl::string_view given) {
  const auto harmless = [](char c) { return absl::ascii_isalnum(c) || absl::StrContains("._:-", c); };
  if (!given.empty() && given.size() <= kLongestId && absl::c_all_of(given, harmless)) return std::string(given);
  thread_local std::mt19937_64 random = [] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device()};
    return std::mt19937_64(seed);
  }();
  return absl::StrFormat("%016x%016x", random(), random());
}

const char* ReasonPhrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Payload Too Large";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Status";
  }
}

Headers RetryHeaders(const ApiError& error) {
  if (!error.retry_after.has_value()) return {};
  const int64_t ms = std::clamp<int64_t>(absl::ToInt64Milliseconds(*error.retry_after), 1, 3600 * 1000);
  return {{"retry-after", absl::StrCat((ms + 999) / 1000)}, {"retry-after-ms", absl::StrCat(ms)}};
}

ApiError CutError(Cut cut) {
  switch (cut) {
    case Cut::kClientLeft:
      break;
    case Cut::kShutdown:
      return {.status = 503,
              .message = "the gateway is shutting down and waits no longer for this answer; ask again",
              .type = "server_error",
              .code = "shutting_down",
              .retry_after = absl::Seconds(1)};
  }
  return {.status = 499,
          .message = "the client closed its side of the connection before the answer was whole; keep it open",
          .code = "client_closed_request"};
}

HttpResponse ToResponse(const ApiError& error) {
  return {.status = error.status, .body = ErrorJson(error), .headers = RetryHeaders(error)};
}

}  // namespace tandem::gateway
