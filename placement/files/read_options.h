// What the readers of topology files share: what the caller knows beside the file, and how they end.
#ifndef TANDEM_PLACEMENT_FILES_READ_OPTIONS_H_
#define TANDEM_PLACEMENT_FILES_READ_OPTIONS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "placement/topology/topology.h"

namespace tandem::placement {

struct ReadOptions {
  std::string gpu;                  // chip, as --gpu takes it, where the file names none; empty: not said
  std::string host_name = "host0";  // devices are called "host0/3"
};

// Null where no chip was said; an unknown one is an error that lists the known ones.
absl::StatusOr<const Chip*> NamedChip(absl::string_view gpu);

// What a message may show of a file: in quotes, one line, at most 40 characters, nothing a terminal would act upon.
std::string Quoted(absl::string_view text);

// "hostN" and "hostN/i".
void NameHost(Host& host, absl::string_view name);

// Names the host, completes it, validates it. `file` stands in the message.
absl::StatusOr<Host> Finish(Host host, const ReadOptions& options, absl::string_view file, int64_t socket_mbps = 0);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_FILES_READ_OPTIONS_H_
