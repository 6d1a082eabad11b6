#include "worker/topology/cpu_topology.h"

#include <algorithm>
#include <fstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tandem::worker {
namespace {

constexpr int kMostCores = 4096;
constexpr int kMostNodes = 1024;

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

const NumaNode* FindNode(const CpuTopology& topology, int id) {
  const auto it =
      std::find_if(topology.nodes.begin(), topology.nodes.end(), [id](const NumaNode& node) { return node.id == id; });
  return it == topology.nodes.end() ? nullptr : &*it;
}

}  // namespace

std::vector<int> ParseCoreList(absl::string_view text) {
  std::vector<int> cores;
  for (absl::string_view part : absl::StrSplit(absl::StripAsciiWhitespace(text), ',', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> ends = absl::StrSplit(part, absl::MaxSplits('-', 1));
    int first = 0, last = 0;
    if (!absl::SimpleAtoi(ends.first, &first) || first < 0) return cores;
    last = first;
    if (!ends.second.empty() && !absl::SimpleAtoi(ends.second, &last)) return cores;
    for (int core = first; core <= last; ++core) {
      if (cores.size() >= kMostCores) return cores;
      cores.push_back(core);
    }
  }
  return cores;
}

int CpuTopology::NodeOf(int core) const {
  for (const NumaNode& node : nodes) {
    if (std::find(node.cores.begin(), node.cores.end(), core) != node.cores.end()) return node.id;
  }
  return -1;
}

int CpuTopology::Distance(int a, int b) const {
  const NumaNode* from = FindNode(*this, a);
  const NumaNode* to = FindNode(*this, b);
  if (from == nullptr || to == nullptr) return -1;
  const size_t index = to - nodes.data();
  return index < from->distances.size() ? from->distances[index] : -1;
}

placement::PathKind CpuTopology::LinkBetween(int numa_a, int numa_b) const {
  const auto with_cores = std::count_if(nodes.begin(), nodes.end(), [](const NumaNode& n) { return !n.cores.empty(); });
  if (with_cores <= 1) return placement::PathKind::kSharedMemory;
  return numa_a >= 0 && numa_a == numa_b ? placement::PathKind::kSharedMemory : placement::PathKind::kSys;
}

CpuTopology ReadCpuTopology(const std::string& root) {
  CpuTopology topology;
  const std::string base = root + "/sys/devices/system/node";
  for (int id : ParseCoreList(FirstLine(base + "/online"))) {
    if (topology.nodes.size() >= kMostNodes) break;
    NumaNode node;
    node.id = id;
    node.cores = ParseCoreList(FirstLine(absl::StrCat(base, "/node", id, "/cpulist")));
    for (absl::string_view word :
         absl::StrSplit(FirstLine(absl::StrCat(base, "/node", id, "/distance")), ' ', absl::SkipWhitespace())) {
      int distance = 0;
      if (!absl::SimpleAtoi(word, &distance)) break;
      node.distances.push_back(distance);
    }
    topology.nodes.push_back(std::move(node));
  }
  return topology;
}

}  // namespace tandem::worker
