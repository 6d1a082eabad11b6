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
constexpr int kMostCachesOfCore = 8;  // index0 to index3 are usual
constexpr int kHighestLevel = 5;
constexpr int64_t kLargestCache = int64_t{1} << 40;

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// "1024K", "32M", "512". 0 where it is no size.
int64_t CacheBytes(absl::string_view text) {
  text = absl::StripAsciiWhitespace(text);
  int64_t unit = 1;
  if (!text.empty()) {
    const char last = absl::ascii_toupper(text.back());
    if (last == 'K') unit = int64_t{1} << 10;
    if (last == 'M') unit = int64_t{1} << 20;
    if (last == 'G') unit = int64_t{1} << 30;
  }
  if (unit > 1) text.remove_suffix(1);
  int64_t number = 0;
  if (!absl::SimpleAtoi(text, &number) || number < 0 || number > kLargestCache / unit) return 0;
  return number * unit;
}

// The caches of one core. A virtual machine may tell none, or some of a cache's facts only; a cache whose sharers are
// not told is the core's own.
void ReadCaches(const std::string& folder, int core, std::vector<CpuCache>& caches) {
  for (int index = 0; index < kMostCachesOfCore; ++index) {
    const std::string base = absl::StrCat(folder, "/cpu", core, "/cache/index", index);
    CpuCache cache;
    if (!absl::SimpleAtoi(FirstLine(base + "/level"), &cache.level)) continue;
    if (cache.level < 2 || cache.level > kHighestLevel || FirstLine(base + "/type") == "Instruction") continue;
    cache.bytes = CacheBytes(FirstLine(base + "/size"));
    cache.cores = ParseCoreList(FirstLine(base + "/shared_cpu_list"));
    std::sort(cache.cores.begin(), cache.cores.end());
    cache.cores.erase(std::unique(cache.cores.begin(), cache.cores.end()), cache.cores.end());
    if (!std::binary_search(cache.cores.begin(), cache.cores.end(), core)) cache.cores = {core};
    const bool known = std::any_of(caches.begin(), caches.end(), [&](const CpuCache& other) {
      return other.level == cache.level && other.cores == cache.cores;
    });
    if (!known) caches.push_back(std::move(cache));
  }
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

std::vector<CpuCache> CpuTopology::CachesOf(const std::vector<int>& cores) const {
  std::vector<CpuCache> found;
  for (const CpuCache& cache : caches) {
    const auto shares = [&](int core) { return std::binary_search(cache.cores.begin(), cache.cores.end(), core); };
    if (std::any_of(cores.begin(), cores.end(), shares)) found.push_back(cache);
  }
  return found;
}

std::string CoreListText(const std::vector<int>& cores) {
  std::string text;
  for (size_t i = 0; i < cores.size();) {
    size_t last = i;
    while (last + 1 < cores.size() && cores[last + 1] == cores[last] + 1) ++last;
    absl::StrAppend(&text, text.empty() ? "" : ",", cores[i]);
    if (last > i) absl::StrAppend(&text, "-", cores[last]);
    i = last + 1;
  }
  return text;
}

CpuTopology ReadCpuTopology(const std::string& root) {
  CpuTopology topology;
  const std::string cpus = root + "/sys/devices/system/cpu";
  for (int core : ParseCoreList(FirstLine(cpus + "/online"))) ReadCaches(cpus, core, topology.caches);
  std::stable_sort(topology.caches.begin(), topology.caches.end(), [](const CpuCache& a, const CpuCache& b) {
    return std::pair(a.level, a.cores.front()) < std::pair(b.level, b.cores.front());
  });
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
