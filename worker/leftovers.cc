#include "worker/leftovers.h"

#include <glog/logging.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"

namespace tandem::worker {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kLook{100};
constexpr int kSettledLooks = 5;    // that saw no more free memory than the one before
constexpr uint32_t kExiting = 0x4;  // PF_EXITING of the kernel's flags of a task

std::string Ended(const NvmlDeviceMonitor& device, const std::string& root) {
  std::string ended;
  for (const NvmlDeviceMonitor::Process& process :
       device.Processes().value_or(std::vector<NvmlDeviceMonitor::Process>{})) {
    if (HasEnded(process.pid, root)) absl::StrAppend(&ended, ended.empty() ? "" : ", ", process.pid);
  }
  return ended;
}

}  // namespace

bool HasEnded(int pid, const std::string& root) {
  std::ifstream file(absl::StrCat(root, "/proc/", pid, "/stat"));
  std::string line;
  if (!std::getline(file, line)) return kill(pid, 0) != 0 && errno == ESRCH;
  // "PID (NAME) STATE PPID PGRP SESSION TTY TPGID FLAGS .."; a name may hold anything, a parenthesis too.
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return false;
  std::istringstream rest(line.substr(name_end + 1));
  char state = '?';
  int64_t skipped = 0;
  uint32_t flags = 0;
  rest >> state >> skipped >> skipped >> skipped >> skipped >> skipped >> flags;
  return state == 'Z' || state == 'X' || (rest && (flags & kExiting) != 0);
}

void AwaitLeftovers(const NvmlDeviceMonitor& device, const std::string& name, milliseconds patience,
                    const std::string& root) {
  std::string ended = Ended(device, root);
  if (ended.empty()) return;
  LOG(INFO) << name << ": waiting for what ended processes hold (" << ended << ")";
  const auto until = steady_clock::now() + patience;
  int64_t free = 0;
  for (int settled = 0; settled < kSettledLooks;) {
    if (steady_clock::now() >= until) {
      if (!ended.empty()) {
        LOG(WARNING) << name << ": memory is still held by " << ended
                     << ", which are not seen here; it counts as others'";
      }
      return;
    }
    std::this_thread::sleep_for(kLook);
    ended = Ended(device, root);
    const auto memory = device.ReadMemory();
    const int64_t now_free = memory ? memory->free : 0;
    settled = ended.empty() && now_free <= free ? settled + 1 : 0;
    free = std::max(free, now_free);
  }
}

}  // namespace tandem::worker
