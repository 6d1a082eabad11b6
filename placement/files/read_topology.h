// Reads a topology file of any kind that we know. What kind it is, its contents say: `<` first is an NCCL XML, a line
// `hosts:` our cluster file, and the rest a matrix of `nvidia-smi topo -m`.
#ifndef TANDEM_PLACEMENT_FILES_READ_TOPOLOGY_H_
#define TANDEM_PLACEMENT_FILES_READ_TOPOLOGY_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "placement/files/read_options.h"
#include "placement/topology/topology.h"

namespace tandem::placement {

enum class TopologyFileKind : uint8_t { kSmiMatrix, kNcclXml, kCluster };
TopologyFileKind KindOf(absl::string_view text);

// One host of a matrix or an XML, all hosts of a cluster file; each passes Validate. Errors are one line: NotFound
// where the file cannot be read, InvalidArgument for what is in it.
absl::StatusOr<std::vector<Host>> ReadTopologyFile(const std::string& path, const ReadOptions& options = {});

// The same of text that is in memory. `path` stands in messages and is where the paths in a cluster file start.
absl::StatusOr<std::vector<Host>> ParseTopology(absl::string_view text, const std::string& path,
                                                const ReadOptions& options = {});

// Calls them "hostN", and their devices "hostN/i", N counted from `first`: for hosts of several files.
void NumberHosts(std::vector<Host>& hosts, int first = 0);

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_FILES_READ_TOPOLOGY_H_
