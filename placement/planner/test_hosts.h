// Hosts for tests, written as `nvidia-smi topo -m` shows them.
#ifndef TANDEM_PLACEMENT_PLANNER_TEST_HOSTS_H_
#define TANDEM_PLACEMENT_PLANNER_TEST_HOSTS_H_

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "glog/logging.h"
#include "placement/topology/topology.h"

namespace tandem::placement {

// One row per device, words apart by blanks: "X NV2 SYS". `numa`: of each device; empty: not known.
inline Host HostOf(absl::string_view chip, const std::vector<absl::string_view>& rows,
                   const std::vector<int>& numa = {}) {
  Host host;
  host.name = "host0";
  const int n = static_cast<int>(rows.size());
  host.devices.resize(n);
  host.links.resize(n * n);
  for (int i = 0; i < n; ++i) {
    host.devices[i].name = absl::StrCat("host0/", i);
    host.devices[i].chip = chip == "CPU" ? &CpuChip() : FindChip(chip);
    CHECK(host.devices[i].chip != nullptr) << chip;
    if (!numa.empty()) host.devices[i].numa = numa[i];
    const std::vector<absl::string_view> words = absl::StrSplit(rows[i], ' ', absl::SkipEmpty());
    CHECK_EQ(words.size(), rows.size()) << rows[i];
    for (int j = 0; j < n; ++j) {
      Link& link = host.link(i, j);
      if (words[j] == "X") {
        link.kind = PathKind::kSelf;
      } else if (words[j].substr(0, 2) == "NV") {
        link.kind = PathKind::kNvLink;
        CHECK(absl::SimpleAtoi(words[j].substr(2), &link.nvlinks)) << words[j];
      } else {
        bool known = false;
        for (const PathKind kind : {PathKind::kPix, PathKind::kPxb, PathKind::kPhb, PathKind::kNode, PathKind::kSys,
                                    PathKind::kSharedMemory}) {
          if (words[j] != Word(kind)) continue;
          link.kind = kind;
          known = true;
        }
        CHECK(known) << words[j];
      }
    }
  }
  Complete(host);
  CHECK(Validate(host).ok()) << Validate(host);
  return host;
}

// All pairs alike.
inline Host UniformHost(absl::string_view chip, int n, absl::string_view label) {
  std::vector<std::string> rows(n);
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < n; ++j) absl::StrAppend(&rows[i], i == j ? "X" : label, " ");
  }
  return HostOf(chip, std::vector<absl::string_view>(rows.begin(), rows.end()));
}

inline Host Dgx1V() {
  return HostOf("V100",
                {"X   NV1 NV1 NV2 NV2 SYS SYS SYS",  //
                 "NV1 X   NV2 NV1 SYS NV2 SYS SYS",  //
                 "NV1 NV2 X   NV2 SYS SYS NV1 SYS",  //
                 "NV2 NV1 NV2 X   SYS SYS SYS NV1",  //
                 "NV2 SYS SYS SYS X   NV1 NV1 NV2",  //
                 "SYS NV2 SYS SYS NV1 X   NV2 NV1",  //
                 "SYS SYS NV1 SYS NV1 NV2 X   NV2",  //
                 "SYS SYS SYS NV1 NV2 NV1 NV2 X  "},
                {0, 0, 0, 0, 1, 1, 1, 1});
}

// Bridged pairs, four cards a socket.
inline Host EightA100Pcie() {
  return HostOf("A100",
                {"X    NV12 NODE NODE SYS  SYS  SYS  SYS",   //
                 "NV12 X    NODE NODE SYS  SYS  SYS  SYS",   //
                 "NODE NODE X    NV12 SYS  SYS  SYS  SYS",   //
                 "NODE NODE NV12 X    SYS  SYS  SYS  SYS",   //
                 "SYS  SYS  SYS  SYS  X    NV12 NODE NODE",  //
                 "SYS  SYS  SYS  SYS  NV12 X    NODE NODE",  //
                 "SYS  SYS  SYS  SYS  NODE NODE X    NV12",  //
                 "SYS  SYS  SYS  SYS  NODE NODE NV12 X   "},
                {0, 0, 0, 0, 1, 1, 1, 1});
}

}  // namespace tandem::placement

#endif  // TANDEM_PLACEMENT_PLANNER_TEST_HOSTS_H_
