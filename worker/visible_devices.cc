#include "worker/visible_devices.h"

#include <cstdlib>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tandem::worker {
namespace {

constexpr char kVariable[] = "CUDA_VISIBLE_DEVICES";

std::vector<std::string> EntriesOf(absl::string_view visible) {
  std::vector<std::string> entries;
  for (absl::string_view entry : absl::StrSplit(visible, ',')) {
    entries.emplace_back(absl::StripAsciiWhitespace(entry));
  }
  return entries;
}

}  // namespace

std::string ExplainVisibility(const std::optional<std::string>& visible, int devices) {
  if (!visible) return "";
  if (absl::StripAsciiWhitespace(*visible).empty()) return absl::StrCat(kVariable, " is empty, which hides all GPUs");
  const std::string said = absl::StrCat(kVariable, "=", *visible);
  const std::vector<std::string> entries = EntriesOf(*visible);
  for (size_t i = 0; i < entries.size(); ++i) {
    int index = 0;
    const bool number = absl::SimpleAtoi(entries[i], &index);
    const bool uuid = absl::StartsWithIgnoreCase(entries[i], "GPU-");
    if (uuid || (number && index >= 0 && (devices < 0 || index < devices))) continue;
    const std::string why = number && index >= 0 ? absl::StrCat("this machine has ", devices) : "it names no GPU";
    return absl::StrCat(said, ": CUDA stops at \"", entries[i], "\" (", why, ")",
                        i == 0 ? ", which hides all GPUs" : "");
  }
  return absl::StrCat(said, devices < 0 ? "" : absl::StrCat(", of ", devices, " in this machine"));
}

absl::Status CheckVisibility(const std::optional<std::string>& visible, const std::optional<std::string>& order) {
  for (const std::string& entry : EntriesOf(visible.value_or(""))) {
    if (!absl::StartsWithIgnoreCase(entry, "MIG-")) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        kVariable, " names ", entry, ", a slice of a GPU (MIG): its slices reach no peer; a worker takes a whole GPU"));
  }
  if (order && !order->empty() && *order != "FASTEST_FIRST" && *order != "PCI_BUS_ID") {
    return absl::InvalidArgumentError(
        absl::StrCat("CUDA_DEVICE_ORDER=", *order, ": CUDA knows FASTEST_FIRST and PCI_BUS_ID"));
  }
  return absl::OkStatus();
}

std::optional<std::string> EnvironmentVariable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

}  // namespace tandem::worker
