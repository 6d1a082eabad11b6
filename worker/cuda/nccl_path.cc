#include "worker/cuda/nccl_path.h"

#include <glog/logging.h>
#include <nccl.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "worker/cuda/peer_check.h"

extern char** environ;

namespace tandem::worker::cuda {
namespace {

// Room in /dev/shm that a rank shall find where NCCL may have to talk through it. Assumed with some to spare, not
// measured: NCCL's own need depends on its buffers and channels.
constexpr int64_t kShmPerRank = int64_t{32} << 20;

// NCCL's own switches, as an operator set them: the first thing to know when it does something unexpected.
std::string Environment() {
  std::vector<std::string> set;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (absl::StartsWith(*variable, "NCCL_")) set.emplace_back(*variable);
  }
  std::sort(set.begin(), set.end());
  return set.empty() ? "no NCCL_ variable set" : absl::StrJoin(set, " ");
}

int64_t FreeSharedMemory() {
  struct statvfs shm {};
  if (statvfs("/dev/shm", &shm) != 0) return -1;
  return static_cast<int64_t>(shm.f_bavail) * static_cast<int64_t>(shm.f_frsize);
}

// What the ranks tell each other first. Fixed size, the same build on all ranks.
struct Introduction {
  int32_t nccl_version = 0;
  int32_t has_choice = 0;  // the operator has set NCCL_P2P_DISABLE or NCCL_P2P_LEVEL
  int64_t shm_free = 0;
};

}  // namespace

std::string NcclVersionName(int version) {
  return absl::StrCat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

absl::StatusOr<bool> ChooseNcclPath(Communicator& control, absl::Time deadline) {
  Introduction mine{.shm_free = FreeSharedMemory()};
  ncclGetVersion(&mine.nccl_version);
  mine.has_choice = std::getenv("NCCL_P2P_DISABLE") != nullptr || std::getenv("NCCL_P2P_LEVEL") != nullptr;
  const absl::StatusOr<std::vector<Introduction>> all = ExchangeFacts(control, mine);
  if (!all.ok()) return all.status();
  bool has_choice = false;
  for (int p = 0; p < control.size(); ++p) {
    const Introduction& theirs = (*all)[p];
    has_choice |= theirs.has_choice != 0;
    if (theirs.nccl_version == mine.nccl_version) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("rank ", p, " has NCCL ", NcclVersionName(theirs.nccl_version), ", rank ", control.rank(), " has ",
                     NcclVersionName(mine.nccl_version), "; the ranks of a group need the same"));
  }
  std::string reason = "an operator's choice (NCCL_P2P_DISABLE or NCCL_P2P_LEVEL)";
  if (!has_choice) {
    absl::StatusOr<std::string> found = CheckPeerWrites(control, deadline);
    if (!found.ok()) return found.status();
    reason = *std::move(found);
    // NCCL reads it once in a process: the choice stays for the groups that come later, too.
    if (!reason.empty()) setenv("NCCL_P2P_DISABLE", "1", 1);
  }
  const bool through_host = !reason.empty();
  if (control.rank() == 0) {
    LOG(INFO) << "NCCL " << NcclVersionName(mine.nccl_version) << ", " << control.size() << " ranks, "
              << (through_host ? "no direct access between devices: " + reason : "devices write to each other directly")
              << "; " << Environment();
  }
  const int64_t needed = kShmPerRank * control.size();
  for (int p = 0; through_host && p < control.size(); ++p) {
    const int64_t free = (*all)[p].shm_free;
    if (free < 0 || free >= needed) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "/dev/shm has ", free >> 20, " MiB free on rank ", p, ", and ranks that talk through the host's memory need ",
        needed >> 20, " MiB; in a container, give it more: --shm-size=1g"));
  }
  return !through_host;
}

}  // namespace tandem::worker::cuda
