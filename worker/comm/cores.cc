#include "worker/comm/cores.h"

#include <sched.h>

#include <algorithm>
#include <bitset>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace tandem::worker {
namespace {

constexpr size_t kMaxCpus = 8192;  // The most that Linux is built for.

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

int QuotaCores(absl::string_view cpu_max) {
  const std::vector<absl::string_view> fields = absl::StrSplit(cpu_max, ' ', absl::SkipWhitespace());
  int64_t quota, period;
  if (fields.size() != 2 || !absl::SimpleAtoi(fields[0], &quota) || !absl::SimpleAtoi(fields[1], &period) ||
      quota <= 0 || period <= 0) {
    return 0;
  }
  return static_cast<int>(std::clamp<int64_t>(quota / period, 1, kMaxCpus));
}

int UsableCores(absl::Span<const pid_t> processes) {
  std::bitset<kMaxCpus> usable;
  for (pid_t pid : processes) {
    union {
      cpu_set_t set;
      unsigned long words[kMaxCpus / (8 * sizeof(unsigned long))];
    } mask{};
    if (sched_getaffinity(pid, sizeof(mask), &mask.set) != 0) continue;
    for (size_t cpu = 0; cpu < kMaxCpus; ++cpu) {
      if (CPU_ISSET_S(cpu, sizeof(mask), &mask.set)) usable.set(cpu);
    }
  }
  int cores = std::max(1, static_cast<int>(usable.count()));
  std::string group = FirstLine("/proc/self/cgroup");
  absl::string_view path = group;
  if (absl::ConsumePrefix(&path, "0::")) {
    const int quota = QuotaCores(FirstLine(absl::StrCat("/sys/fs/cgroup", path, "/cpu.max")));
    if (quota > 0) cores = std::min(cores, quota);
  }
  return cores;
}

}  // namespace tandem::worker
