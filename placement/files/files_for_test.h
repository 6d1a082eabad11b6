// What the tests of the readers share: files of the repository and of the collection beside it, links as one word.
#ifndef TANDEM_PLACEMENT_FILES_FILES_FOR_TEST_H_
#define TANDEM_PLACEMENT_FILES_FILES_FOR_TEST_H_

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "placement/topology/topology.h"

namespace tandem::placement {

inline std::filesystem::path SourceFolder() {
  const char* root = std::getenv("TANDEM_SOURCE_DIR");
  return root != nullptr ? root : ".";
}

// Real machines' files; not part of the repository, so that tests of them are skipped where they are not.
inline std::filesystem::path MachinesFolder() { return SourceFolder() / ".." / "shared" / "topologies"; }

inline std::string Contents(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

inline std::vector<std::filesystem::path> FilesIn(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

// "NV12 switch 240000"
inline std::string Shown(const Host& host, int a, int b) {
  const Link& link = host.link(a, b);
  return Label(link) + (link.kind == PathKind::kNvSwitch ? " switch " : " ") + std::to_string(link.mbps);
}

inline std::vector<int> NumaNodes(const Host& host) {
  std::vector<int> nodes;
  for (const Device& device : host.devices) nodes.push_back(device.numa);
  return nodes;
}

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_FILES_FILES_FOR_TEST_H_
