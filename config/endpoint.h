// HOST:PORT as it stands in files and flags: 127.0.0.1:50051, localhost:50051, [::1]:50051.
#ifndef TANDEM_CONFIG_ENDPOINT_H_
#define TANDEM_CONFIG_ENDPOINT_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::config {

struct Endpoint {
  std::string host;  // without brackets
  int port = 0;      // 0 = any free one

  // What gRPC takes, brackets and all.
  std::string ToString() const;
  // What a program of this machine dials to reach it: loopback where the host says "any".
  std::string DialAddress() const;
  // Only processes of this machine can reach it.
  bool IsLoopback() const;
};

absl::StatusOr<Endpoint> ParseEndpoint(absl::string_view text);

}  // namespace tandem::config

#endif  // TANDEM_CONFIG_ENDPOINT_H_
