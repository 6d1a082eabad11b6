#include "worker/cuda/nccl_path.h"

#include <glog/logging.h>
#include <nccl.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
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

// What this process has made of NCCL's switch, which NCCL reads once.
enum class Links : int32_t {
  kOpen,  // NCCL has not been started
  kUsed,  // it was, and may use links
  kNone,  // they were switched off, by ChooseNcclPath
};
std::atomic<Links> links_of_process{Links::kOpen};

constexpr size_t kChoiceBytes = 64;

// What the ranks tell each other first. Fixed size, the same build on all ranks.
struct Introduction {
  int32_t nccl_version = 0;
  Links links = Links::kOpen;
  int64_t shm_free = 0;
  char choice[kChoiceBytes] = "";  // an operator's, in words that can be compared; empty: none
};

// An operator's choice for or against links.
void ReadChoice(char (&choice)[kChoiceBytes]) {
  const char* const disable = std::getenv("NCCL_P2P_DISABLE");
  const char* const level = std::getenv("NCCL_P2P_LEVEL");
  if (disable == nullptr && level == nullptr) return;
  std::snprintf(choice, kChoiceBytes, "NCCL_P2P_DISABLE=%.20s NCCL_P2P_LEVEL=%.20s", disable == nullptr ? "" : disable,
                level == nullptr ? "" : level);
}

// How the devices reach each other, equal on all ranks. kBroken is also what a peer's process has made of itself.
absl::StatusOr<PeerFinding> FindLinks(Communicator& control, const std::vector<Introduction>& all, absl::Time deadline,
                                      const std::function<void(absl::string_view reason)>& on_lost) {
  const auto first_with = [&all](Links links) {
    const auto found =
        std::find_if(all.begin(), all.end(), [&](const Introduction& one) { return one.links == links; });
    return found == all.end() ? -1 : static_cast<int>(found - all.begin());
  };
  PeerFinding finding;
  if (const int without = first_with(Links::kNone); without >= 0) {
    finding = {PeerAccess::kBroken, absl::StrCat("rank ", without, " was in a group that had none")};
  } else {
    absl::StatusOr<PeerFinding> found = CheckPeerWrites(control, deadline, on_lost);
    if (!found.ok() || found->access != PeerAccess::kBroken) return found;
    finding = *std::move(found);
  }
  if (const int used = first_with(Links::kUsed); used >= 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(finding.reason, "; and rank ", used,
                     " has started NCCL with direct access before, which a process can not take back: start the "
                     "workers with NCCL_P2P_DISABLE=1"));
  }
  return finding;
}

}  // namespace

void ForgetLinksForTest() { links_of_process.store(Links::kOpen); }

std::string NcclVersionName(int version) {
  return absl::StrCat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

absl::StatusOr<bool> ChooseNcclPath(Communicator& control, absl::Time deadline,
                                    const std::function<void(absl::string_view reason)>& on_lost) {
  Introduction mine{.links = links_of_process.load(), .shm_free = FreeSharedMemory()};
  ncclGetVersion(&mine.nccl_version);
  if (mine.links != Links::kNone) ReadChoice(mine.choice);
  const absl::StatusOr<std::vector<Introduction>> all = ExchangeFacts(control, mine);
  if (!all.ok()) return all.status();
  bool switched_off = false;
  for (const Introduction& theirs : *all) switched_off |= theirs.links == Links::kNone;
  for (int p = 0; p < control.size(); ++p) {
    const Introduction& theirs = (*all)[p];
    if (theirs.nccl_version != mine.nccl_version) {
      return absl::FailedPreconditionError(
          absl::StrCat("rank ", p, " has NCCL ", NcclVersionName(theirs.nccl_version), ", rank ", control.rank(),
                       " has ", NcclVersionName(mine.nccl_version), "; the ranks of a group need the same"));
    }
    if (!switched_off && std::strncmp(theirs.choice, mine.choice, kChoiceBytes) != 0) {
      const auto said = [](const Introduction& rank) { return *rank.choice == '\0' ? "neither" : rank.choice; };
      return absl::FailedPreconditionError(absl::StrCat("of NCCL_P2P_DISABLE and NCCL_P2P_LEVEL rank ", p, " has ",
                                                        said(theirs), ", rank ", control.rank(), " has ", said(mine),
                                                        "; the ranks of a group need the same"));
    }
  }
  std::string reason = "an operator's choice (NCCL_P2P_DISABLE or NCCL_P2P_LEVEL)";
  if (switched_off || *mine.choice == '\0') {
    absl::StatusOr<PeerFinding> found = FindLinks(control, *all, deadline, on_lost);
    if (!found.ok()) return found.status();
    const bool broken = found->access == PeerAccess::kBroken;
    if (broken) setenv("NCCL_P2P_DISABLE", "1", 1);
    links_of_process.store(broken ? Links::kNone : Links::kUsed);
    reason = std::move(found->reason);
  }
  const bool through_host = !reason.empty();
  if (control.rank() == 0) {
    LOG(INFO) << "NCCL " << NcclVersionName(mine.nccl_version) << ", " << control.size() << " ranks, "
              << (through_host ? "no direct access between all devices: " + reason
                               : "devices write to each other directly")
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
