#include "config/units.h"

#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tandem::config {
namespace {

struct Unit {
  const char* name;
  uint64_t bytes;
};
constexpr Unit kUnits[] = {
    {"", 1},
    {"B", 1},
    {"KiB", 1ull << 10},
    {"MiB", 1ull << 20},
    {"GiB", 1ull << 30},
    {"TiB", 1ull << 40},
    {"Ki", 1ull << 10},
    {"Mi", 1ull << 20},
    {"Gi", 1ull << 30},
    {"Ti", 1ull << 40},
    {"kB", 1000},
    {"KB", 1000},
    {"MB", 1000000},
    {"GB", 1000000000ull},
    {"TB", 1000000000000ull},
};
constexpr uint64_t kMostBytes = INT64_MAX;
constexpr int kMostFractionDigits = 9;

absl::Status BadSize(absl::string_view text) {
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is not a size; write a number and KiB, MiB, GiB or TiB, such as 4GiB"));
}

}  // namespace

absl::StatusOr<uint64_t> ParseBytes(absl::string_view text) {
  const absl::string_view whole = absl::StripAsciiWhitespace(text);
  size_t at = 0;
  unsigned __int128 digits = 0;  // the number without its point
  unsigned __int128 scale = 1;   // 10 ^ digits after the point
  bool point = false;
  int integer_digits = 0, fraction_digits = 0;
  for (; at < whole.size() && (absl::ascii_isdigit(whole[at]) || (whole[at] == '.' && !point)); ++at) {
    if (whole[at] == '.') {
      point = true;
      continue;
    }
    digits = digits * 10 + static_cast<unsigned>(whole[at] - '0');
    if (point) {
      scale *= 10;
      ++fraction_digits;
    } else {
      ++integer_digits;
    }
    // Keeps digits * unit below 2^128 whatever the unit: 10^28 < 2^94.
    if (integer_digits > 19 || fraction_digits > kMostFractionDigits) return BadSize(text);
  }
  if (integer_digits == 0 || (point && fraction_digits == 0)) return BadSize(text);
  const absl::string_view unit_name = absl::StripLeadingAsciiWhitespace(whole.substr(at));
  for (const Unit& unit : kUnits) {
    if (unit_name != unit.name) continue;
    const unsigned __int128 bytes = digits * unit.bytes / scale;
    if (bytes > kMostBytes) return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is beyond 8EiB"));
    return static_cast<uint64_t>(bytes);
  }
  return BadSize(text);
}

std::string FormatBytes(uint64_t bytes) {
  if (bytes == 0) return "0";
  for (const char* name : {"TiB", "GiB", "MiB", "KiB"}) {
    const uint64_t unit = *ParseBytes(absl::StrCat("1", name));
    if (bytes % unit == 0) return absl::StrCat(bytes / unit, name);
  }
  return absl::StrCat(bytes);
}

std::string FormatBytesShort(uint64_t bytes) {
  for (const char* name : {"TiB", "GiB", "MiB", "KiB"}) {
    const uint64_t unit = *ParseBytes(absl::StrCat("1", name));
    if (bytes >= unit) return absl::StrFormat("%.1f%s", static_cast<double>(bytes) / static_cast<double>(unit), name);
  }
  return absl::StrCat(bytes, "B");
}

absl::StatusOr<absl::Duration> ParseDuration(absl::string_view text) {
  absl::Duration duration;
  if (!absl::ParseDuration(absl::StripAsciiWhitespace(text), &duration) || duration == absl::InfiniteDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not a duration; write a number and ms, s, m or h, such as 500ms"));
  }
  if (duration < absl::ZeroDuration() || duration > absl::Hours(24 * 366)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is out of range; 0 to one year"));
  }
  return duration;
}

absl::StatusOr<int64_t> ParseInteger(absl::string_view text, int64_t least, int64_t most) {
  int64_t value = 0;
  if (!absl::SimpleAtoi(text, &value)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not a whole number"));
  }
  if (value < least || value > most) {
    return absl::InvalidArgumentError(absl::StrCat(value, " is out of range; ", least, " to ", most));
  }
  return value;
}

absl::StatusOr<double> ParseReal(absl::string_view text, double above, double most) {
  double value = 0;
  if (!absl::SimpleAtod(text, &value) || !std::isfinite(value)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not a number"));
  }
  if (value <= above || value > most) {
    return absl::InvalidArgumentError(absl::StrCat(text, " is out of range; above ", above, ", at most ", most));
  }
  return value;
}

absl::StatusOr<bool> ParseBool(absl::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is neither true nor false"));
}

}  // namespace tandem::config
