// What a failed call says beyond its code: the reason of Tandem's table ("QUEUE_FULL"), the numbers behind the message,
// and when to come again. They travel as google.rpc details and are kept as payloads of the absl::Status.
#ifndef TANDEM_CLIENT_ERROR_H_
#define TANDEM_CLIENT_ERROR_H_

#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace tandem::client {

// Empty where the failure did not come from Tandem: no connection, or a proxy's answer.
std::string ErrorReason(const absl::Status& status);
std::map<std::string, std::string> ErrorMetadata(const absl::Status& status);
// How long the scheduler asks the caller to wait before it tries again.
std::optional<absl::Duration> RetryDelay(const absl::Status& status);

// No scheduler answered: UNAVAILABLE, and not in Tandem's own words.
bool Unreachable(const absl::Status& status);

}  // namespace tandem::client

#endif  // TANDEM_CLIENT_ERROR_H_
