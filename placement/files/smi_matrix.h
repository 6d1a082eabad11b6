// Reads what `nvidia-smi topo -m` prints, as people paste it: tabs or blanks, the header with or without its leading
// tab, columns of network cards, affinity columns of any driver, cells that ran into each other, wrapped rows.
//
// A message names file, line and cell, in one line. Nothing is guessed: a table that is not square, not symmetric or
// can be read in two ways is refused.
//
// NUMA nodes are those of the NUMA column; without one, devices of equal CPU affinity are on one node, if there is more
// than one such set. NV<k> needs a chip: with none named, or one without NVLink, the table is refused.
#ifndef TANDEM_PLACEMENT_FILES_SMI_MATRIX_H_
#define TANDEM_PLACEMENT_FILES_SMI_MATRIX_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "placement/files/read_options.h"
#include "placement/topology/topology.h"

namespace tandem::placement {

inline constexpr size_t kMostSmiBytes = 1 << 20;

// `file` stands in messages.
absl::StatusOr<Host> ParseSmiMatrix(absl::string_view text, absl::string_view file, const ReadOptions& options);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_FILES_SMI_MATRIX_H_
