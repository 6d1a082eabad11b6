// Quantities as people write them in files and on command lines.
//
// Sizes carry binary (KiB, MiB, GiB, TiB, or Ki, Mi, Gi, Ti) or decimal (kB, MB, GB, TB) units, may have a fraction
// ("1.5GiB") and stand for bytes where there is no unit. A lone "G" is refused: half of the world means the other one.
// Durations need a unit ("500ms", "10m", "1h30m"); only 0 may stand alone.
#ifndef TANDEM_CONFIG_UNITS_H_
#define TANDEM_CONFIG_UNITS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace tandem::config {

// At most 2^63 - 1, so that differences of sizes fit into a signed number.
absl::StatusOr<uint64_t> ParseBytes(absl::string_view text);
// The largest unit that keeps the number exact ("4GiB", "1536MiB"): ParseBytes gives the same number back.
std::string FormatBytes(uint64_t bytes);
// One decimal for tables ("1.5GiB"); loses digits.
std::string FormatBytesShort(uint64_t bytes);

// Not negative, not infinite, at most a year.
absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text);

// A number in [least, most]; the message names the range.
absl::StatusOr<int64_t> ParseInteger(absl::string_view text, int64_t least, int64_t most);
absl::StatusOr<double> ParseReal(absl::string_view text, double above, double most);  // (above, most]
absl::StatusOr<bool> ParseBool(absl::string_view text);                               // true or false

}  // namespace tandem::config

#endif  // TANDEM_CONFIG_UNITS_H_
