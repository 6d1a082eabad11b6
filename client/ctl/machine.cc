#include "client/ctl/machine.h"

#include <sched.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace tandem::client::ctl {
namespace {

namespace fs = std::filesystem;

std::string FirstLine(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// /dev/nvidia0, /dev/nvidia1: in a container only those that it was given.
int CountGpus(const fs::path& root) {
  std::error_code error;
  int gpus = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(root / "dev", error)) {
    const std::string name = entry.path().filename().string();
    int index = 0;
    absl::string_view rest = name;
    gpus += absl::ConsumePrefix(&rest, "nvidia") && absl::SimpleAtoi(rest, &index);
  }
  return gpus;
}

// "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu ..."
std::string DriverVersion(const fs::path& root) {
  const std::string line = FirstLine(root / "proc/driver/nvidia/version");
  for (absl::string_view word : absl::StrSplit(line, ' ', absl::SkipEmpty())) {
    if (!word.empty() && word[0] >= '0' && word[0] <= '9' && word.find('.') != absl::string_view::npos) {
      return std::string(word);
    }
  }
  return "";
}

// "GPU UUID: \t GPU-5d8a..." of each GPU that the driver has.
std::vector<std::string> Uuids(const fs::path& root) {
  std::vector<std::string> uuids;
  std::error_code error;
  for (const fs::directory_entry& gpu : fs::directory_iterator(root / "proc/driver/nvidia/gpus", error)) {
    std::ifstream file(gpu.path() / "information");
    for (std::string line; std::getline(file, line);) {
      absl::string_view rest = line;
      if (absl::ConsumePrefix(&rest, "GPU UUID:")) uuids.emplace_back(absl::StripAsciiWhitespace(rest));
    }
  }
  std::sort(uuids.begin(), uuids.end());
  return uuids;
}

uint64_t Memory(const fs::path& root) {
  uint64_t bytes = 0, limit = 0;
  const std::string total = FirstLine(root / "proc/meminfo");  // "MemTotal:       24576000 kB"
  for (absl::string_view word : absl::StrSplit(total, ' ', absl::SkipEmpty())) {
    if (absl::SimpleAtoi(word, &bytes)) break;
  }
  bytes *= 1024;
  if (absl::SimpleAtoi(FirstLine(root / "sys/fs/cgroup/memory.max"), &limit)) bytes = std::min(bytes, limit);
  return bytes;
}

}  // namespace

Machine LookAround(const std::string& root) {
  Machine machine;
  machine.gpus = CountGpus(root);
  machine.uuids = Uuids(root);
  machine.driver = DriverVersion(root);
  machine.memory_bytes = Memory(root);
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof(cores), &cores) == 0) machine.cores = std::max(1, CPU_COUNT(&cores));
  struct statvfs shared = {};
  if (statvfs((fs::path(root) / "dev/shm").c_str(), &shared) == 0) {
    machine.shared_bytes = uint64_t{shared.f_bavail} * shared.f_frsize;
  }
  return machine;
}

}  // namespace tandem::client::ctl
