#include "config/endpoint.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "config/units.h"

namespace tandem::config {

std::string Endpoint::ToString() const {
  if (absl::StrContains(host, ':')) return absl::StrCat("[", host, "]:", port);
  return absl::StrCat(host, ":", port);
}

std::string Endpoint::DialAddress() const {
  if (host == "0.0.0.0") return Endpoint{"127.0.0.1", port}.ToString();
  if (host == "::") return Endpoint{"::1", port}.ToString();
  return ToString();
}

bool Endpoint::IsLoopback() const { return host == "localhost" || host == "::1" || absl::StartsWith(host, "127."); }

absl::StatusOr<Endpoint> ParseEndpoint(absl::string_view text) {
  const auto bad = [text](absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not an address: ", why, "; write HOST:PORT, such as 127.0.0.1:50051"));
  };
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) return bad("no port");
  absl::string_view host = text.substr(0, colon);
  if (absl::StartsWith(host, "[") && absl::EndsWith(host, "]")) {
    host = host.substr(1, host.size() - 2);
  } else if (absl::StrContains(host, ':')) {
    return bad("an IPv6 host needs brackets");
  }
  if (host.empty()) return bad("no host");
  if (host.find_first_of(" \t/[]\n") != absl::string_view::npos) return bad("a host has none of these: space / [ ]");
  const auto port = ParseInteger(text.substr(colon + 1), 0, 65535);
  if (!port.ok()) return bad(absl::StrCat("port ", port.status().message()));
  return Endpoint{std::string(host), static_cast<int>(*port)};
}

}  // namespace tandem::config
