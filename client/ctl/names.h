// Names as people type them. gpu/X and device/X mean the same; a device may also be an index, a UUID or its beginning,
// a PCI bus id or node/index, which the scheduler resolves, for it alone knows the devices.
#ifndef TANDEM_CLIENT_CTL_NAMES_H_
#define TANDEM_CLIENT_CTL_NAMES_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::client::ctl {

enum class Kind { kDevice, kNode, kGroup, kModel, kRequest };

struct ResourceName {
  Kind kind;
  std::string name;  // what the admin calls take: "groups/7", "nodes/box"; of a device what was typed, less its kind
};

// "device", "devices", "gpu", "gpus", "group", ...
absl::StatusOr<Kind> ParseKind(absl::string_view word);

// With a kind in front ("group/7", "nodes/box/devices/0") that kind, else `otherwise`.
absl::StatusOr<ResourceName> ParseName(absl::string_view text, Kind otherwise);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_NAMES_H_
