// Reads NCCL's topology XML (NCCL_TOPO_DUMP_FILE, the files that clouds ship, RCCL's models of AMD machines).
//
//   devices   <gpu> elements, in the order of their `dev`; where there are none, <pci> of a display class, in order
//   chips     --gpu, else the generation by `sm`, else a generic PCIe card
//   paths     under the same <pci> PIX, under one further up PXB, under the same <cpu> PHB, else SYS; as fast as the
//             narrowest link_speed * link_width between them
//   NVLink    to a switch or to a device. Cloud files leave it out and rely on NCCL to find it: such a file describes
//             PCIe only
//   sockets   the rate between two <cpu> is that of vendor and model
//   network   all <net> together
// RCCL's <xgmi> is read as direct links of kXgmiMbps each. What it does not know it skips, with all below.
//
// Refused, with file and line: document types and entities, more than 64 levels, numbers out of range, addresses given
// twice, links to oneself or with two opinions, several hosts in one file, anything after </system>.
#ifndef TANDEM_PLACEMENT_FILES_NCCL_XML_H_
#define TANDEM_PLACEMENT_FILES_NCCL_XML_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "placement/files/read_options.h"
#include "placement/topology/topology.h"

namespace tandem::placement {

inline constexpr size_t kMostXmlBytes = 4 << 20;
inline constexpr int kMostXmlDepth = 64;
// One xGMI link of the first generation that has them, one direction. Later ones are faster by a factor that is the
// same for all links of a host, so that their order does not change.
inline constexpr int64_t kXgmiMbps = 24'000;

absl::StatusOr<Host> ParseNcclXml(absl::string_view text, absl::string_view file, const ReadOptions& options);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_FILES_NCCL_XML_H_
