#include "placement/files/read_options.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace tandem::placement {

absl::StatusOr<const Chip*> NamedChip(absl::string_view gpu) {
  if (gpu.empty()) return nullptr;
  const Chip* chip = FindChip(gpu);
  if (chip == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("unknown GPU ", Quoted(gpu), "; known are ", KnownChips()));
  }
  return chip;
}

std::string Quoted(absl::string_view text) {
  constexpr size_t kMost = 40;
  const bool cut = text.size() > kMost;
  return absl::StrCat("\"", absl::CHexEscape(text.substr(0, kMost)), cut ? "...\"" : "\"");
}

void NameHost(Host& host, absl::string_view name) {
  host.name = std::string(name);
  for (int i = 0; i < host.size(); ++i) host.devices[i].name = absl::StrCat(name, "/", i);
}

absl::StatusOr<Host> Finish(Host host, const ReadOptions& options, absl::string_view file, int64_t socket_mbps) {
  NameHost(host, options.host_name);
  Complete(host, socket_mbps);
  if (const absl::Status valid = Validate(host); !valid.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": ", valid.message()));
  }
  return host;
}

}  // namespace tandem::placement
