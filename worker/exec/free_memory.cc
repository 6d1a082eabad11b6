#include "worker/exec/free_memory.h"

#include <algorithm>
#include <fstream>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tandem::worker {
namespace {

// MemAvailable: what can be taken without swapping, caches given back.
std::optional<int64_t> MachineAvailable(const std::string& root) {
  std::ifstream file(root + "/proc/meminfo");
  std::string name, unit;
  int64_t kib = 0;
  while (file >> name >> kib) {
    if (name == "MemAvailable:") return kib * 1024;
    std::getline(file, unit);
  }
  return std::nullopt;
}

std::optional<int64_t> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  int64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;  // Also for "max".
}

// Of memory.stat: pages of files, which the kernel gives back before it refuses memory.
int64_t ReclaimableFiles(const std::string& folder) {
  std::ifstream file(folder + "/memory.stat");
  std::string name;
  int64_t value = 0;
  while (file >> name >> value) {
    if (name == "inactive_file") return value;
  }
  return 0;
}

// The tightest limit on the way from this process's group to the root.
std::optional<int64_t> GroupAvailable(const std::string& root) {
  std::ifstream file(root + "/proc/self/cgroup");
  std::string line;
  std::optional<int64_t> available;
  while (std::getline(file, line)) {
    if (!absl::StartsWith(line, "0::")) continue;  // The unified hierarchy.
    std::string group = line.substr(3);
    while (true) {
      const std::string folder = absl::StrCat(root, "/sys/fs/cgroup", group);
      const std::optional<int64_t> limit = ReadNumber(folder + "/memory.max");
      const std::optional<int64_t> used = ReadNumber(folder + "/memory.current");
      if (limit.has_value() && used.has_value()) {
        const int64_t left = std::max<int64_t>(0, *limit - *used + ReclaimableFiles(folder));
        available = std::min(available.value_or(INT64_MAX), left);
      }
      const size_t slash = group.rfind('/');
      if (group.size() <= 1 || slash == std::string::npos) break;
      group.resize(slash);
    }
  }
  return available;
}

}  // namespace

int64_t FreeMemoryBytes(const std::string& root) {
  return std::min(MachineAvailable(root).value_or(INT64_MAX), GroupAvailable(root).value_or(INT64_MAX));
}

}  // namespace tandem::worker
