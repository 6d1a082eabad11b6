// The solver against an oracle that knows nothing of it: every way to give disjoint sets to the replicas, the cost of
// each by CostOf, the best by Better.
#include "placement/planner/host_solver.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "placement/files/smi_matrix.h"
#include "placement/planner/parts.h"
#include "placement/planner/test_hosts.h"

namespace tandem::placement {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

Host WithMemory(Host host, int64_t bytes) {
  for (Device& device : host.devices) device.memory_total = bytes;
  return host;
}

HostItem Item(PartKind& kind, int ranks, int replicas, DeviceSet eligible, int priority = 0) {
  HostItem item;
  item.ranks = ranks;
  item.replicas = replicas;
  item.priority = priority;
  item.rank_bytes = kGiB;
  int64_t best = INT64_MAX;
  for (const DeviceSet set : SetsOf((DeviceSet{1} << kind.host.size()) - 1, ranks)) {
    best = std::min(best, kind.scores.Cost(set, item.workload));
  }
  item.best_ns = best == INT64_MAX ? 0 : best;
  for (int d = 0; d < kind.host.size(); ++d) {
    item.spare.push_back((eligible >> d & 1) != 0 ? kind.host.devices[d].memory_total - kGiB : -1);
  }
  return item;
}

// ---- the oracle
// -------------------------------------------------------------------------------------------------------

struct Oracle {
  PartKind& kind;
  const std::vector<HostItem>& items;
  DeviceSet free;
  bool any = false;
  std::vector<int> counts;  // placed in the best
  PlanCost best;

  // Higher priority first, then more replicas, then the earlier item.
  std::vector<int> Rank(const std::vector<int>& placed) const {
    std::vector<int> priorities, rank;
    for (const HostItem& item : items) priorities.push_back(item.priority);
    std::sort(priorities.rbegin(), priorities.rend());
    priorities.erase(std::unique(priorities.begin(), priorities.end()), priorities.end());
    for (const int priority : priorities) {
      int sum = 0;
      for (size_t i = 0; i < items.size(); ++i) sum += items[i].priority == priority ? placed[i] : 0;
      rank.push_back(sum);
      for (size_t i = 0; i < items.size(); ++i) {
        if (items[i].priority == priority) rank.push_back(placed[i]);
      }
    }
    return rank;
  }

  void Try(size_t item, DeviceSet used, std::vector<HostGroup>& groups, std::vector<int>& placed) {
    if (item == items.size()) {
      const PlanCost cost = CostOf(kind.scores, kind.residual, items, groups, free, {});
      const auto mine = Rank(placed), theirs = any ? Rank(counts) : std::vector<int>();
      if (!any || mine > theirs || (mine == theirs && Better(cost, best))) any = true, best = cost, counts = placed;
      return;
    }
    Try(item + 1, used, groups, placed);
    if (placed[item] == items[item].replicas) return;
    for (DeviceSet set = 1; set < (DeviceSet{1} << kind.host.size()); ++set) {
      if (CountOf(set) != items[item].ranks || (set & used) != 0 || (set & ~free) != 0) continue;
      const auto members = MembersOf(set);
      if (std::any_of(members.begin(), members.end(), [&](int d) { return items[item].spare[d] < 0; })) continue;
      if (!groups.empty() && groups.back().item == static_cast<int>(item) && groups.back().set > set) continue;
      groups.push_back({static_cast<int>(item), set});
      ++placed[item];
      Try(item, used | set, groups, placed);
      groups.pop_back();
      --placed[item];
    }
  }

  static Oracle Solve(PartKind& kind, const std::vector<HostItem>& items, DeviceSet free) {
    Oracle oracle{kind, items, free};
    std::vector<HostGroup> groups;
    std::vector<int> placed(items.size(), 0);
    oracle.Try(0, 0, groups, placed);
    return oracle;
  }
};

void ExpectOptimal(PartKind& kind, const std::vector<HostItem>& items, DeviceSet free, const std::string& what) {
  const HostSolution found = SolveHost(kind.scores, kind.residual, items, free);
  Oracle oracle = Oracle::Solve(kind, items, free);
  EXPECT_EQ(found.placed, oracle.counts) << what;
  PlanCost mine = found.cost;
  mine.unplaced = 0;
  EXPECT_FALSE(Better(oracle.best, mine)) << what << ": sum " << mine.sum_ns << " against " << oracle.best.sum_ns
                                          << ", residual " << mine.residual << " against " << oracle.best.residual;
  EXPECT_FALSE(Better(mine, oracle.best)) << what << ": better than every way there is";
  DeviceSet used = 0;
  for (const HostGroup& group : found.groups) {
    EXPECT_EQ(used & group.set, 0u) << what;
    used |= group.set;
  }
  EXPECT_EQ(used & ~free, 0u) << what;
}

std::vector<std::pair<std::string, Host>> SharedMatrices() {
  std::vector<std::pair<std::string, Host>> hosts;
  const std::filesystem::path folder =
      std::filesystem::path(std::getenv("TANDEM_SOURCE_DIR")) / "../shared/topologies/smi";
  if (!std::filesystem::exists(folder)) return hosts;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (const auto& path : files) {
    const std::string name = path.filename();
    ReadOptions options;
    options.gpu = absl::StrContains(name, "V100")    ? "V100"
                  : absl::StrContains(name, "3090")  ? "RTX3090"
                  : absl::StrContains(name, "H100")  ? "H100"
                  : absl::StrContains(name, "H20")   ? "H20"
                  : absl::StrContains(name, "gb200") ? "GB200"
                                                     : "A100";
    if (absl::StrContains(name, "A6000")) options.gpu = "A6000";
    if (absl::StrContains(name, "A30")) options.gpu = "A30";
    std::ifstream in(path);
    std::stringstream text;
    text << in.rdbuf();
    auto host = ParseSmiMatrix(text.str(), name, options);
    EXPECT_TRUE(host.ok()) << host.status();
    if (host.ok() && host->size() <= 8) hosts.emplace_back(name, WithMemory(*std::move(host), 80 * kGiB));
  }
  return hosts;
}

// The kinds of hosts that are built, by their link graphs, and the collected matrices where they are.
std::vector<std::pair<std::string, Host>> Machines() {
  std::vector<std::pair<std::string, Host>> hosts = SharedMatrices();
  const auto add = [&](const char* name, Host host) {
    hosts.emplace_back(name, WithMemory(std::move(host), 80 * kGiB));
  };
  add("cube mesh", Dgx1V());
  add("bridged pairs on two sockets", EightA100Pcie());
  add("mesh of four", UniformHost("A100", 4, "NV4"));
  add("mesh of four V100", UniformHost("V100", 4, "NV2"));
  add("switch", UniformHost("H100", 8, "NV18"));
  add("one PCIe switch", UniformHost("RTX4090", 6, "PIX"));
  add("bridges that go crosswise",
      HostOf("RTX3090", {"X PHB NV4 PHB", "PHB X PHB NV4", "NV4 PHB X PHB", "PHB NV4 PHB X"}));
  add("bridges between sockets",
      HostOf("A100", {"X NODE NV12 SYS", "NODE X SYS NV12", "NV12 SYS X NODE", "SYS NV12 NODE X"}, {0, 0, 1, 1}));
  add("two PCIe switches a socket",
      HostOf("A40",
             {"X PIX NODE NODE SYS SYS SYS SYS", "PIX X NODE NODE SYS SYS SYS SYS", "NODE NODE X PIX SYS SYS SYS SYS",
              "NODE NODE PIX X SYS SYS SYS SYS", "SYS SYS SYS SYS X PIX NODE NODE", "SYS SYS SYS SYS PIX X NODE NODE",
              "SYS SYS SYS SYS NODE NODE X PIX", "SYS SYS SYS SYS NODE NODE PIX X"},
             {0, 0, 0, 0, 1, 1, 1, 1}));
  return hosts;
}

TEST(HostSolver, EqualsBruteForceOnEveryRealMatrixForEveryDrainMask) {
  const auto hosts = Machines();
  for (const auto& [name, host] : hosts) {
    PartKind kind(host);
    const DeviceSet all = (DeviceSet{1} << host.size()) - 1;
    for (DeviceSet free = 1; free <= all; ++free) {
      for (const int ranks : {2, 3, 4}) {
        if (CountOf(free) < ranks) continue;
        // As many replicas as fit, and one alone: what stays free matters only then.
        for (const int replicas : {1, CountOf(free) / ranks}) {
          if (replicas == 1 && CountOf(free) / ranks == 1 && ranks > 2) continue;
          ExpectOptimal(kind, {Item(kind, ranks, replicas, all)}, free,
                        absl::StrCat(name, " free ", free, " ranks ", ranks, " replicas ", replicas));
          if (HasFailure()) return;
        }
      }
    }
  }
}

// Hosts of no particular kind: links, memory and items drawn.
Host RandomHost(std::mt19937& random, int n) {
  Host host;
  host.name = "host0";
  host.devices.resize(n);
  host.links.resize(n * n);
  const bool nvlink = random() % 2 == 0;
  for (int i = 0; i < n; ++i) {
    host.devices[i].name = absl::StrCat("host0/", i);
    host.devices[i].chip = FindChip(nvlink ? "V100" : "A100");
    host.devices[i].numa = i * 2 / n;
    host.devices[i].memory_total = (random() % 2 + 1) * 24 * kGiB;
    host.link(i, i).kind = PathKind::kSelf;
    for (int j = 0; j < i; ++j) {
      Link link;
      const int draw = static_cast<int>(random() % 4);
      if (nvlink && draw < 2) {
        link.kind = PathKind::kNvLink;
        link.nvlinks = 1 + draw % 2;
      } else {
        link.kind = host.devices[i].numa != host.devices[j].numa ? PathKind::kSys
                    : draw == 2                                  ? PathKind::kPhb
                                                                 : PathKind::kNode;
      }
      host.link(i, j) = host.link(j, i) = link;
    }
  }
  // A row of NVLinks beyond the chip's count would be read as a switch.
  for (int i = 0; i < n; ++i) {
    for (int sum = 0, j = 0; j < n; ++j) {
      if (host.link(i, j).kind != PathKind::kNvLink) continue;
      if ((sum += host.link(i, j).nvlinks) <= 6) continue;
      host.link(i, j) = host.link(j, i) = Link{PathKind::kNode};
    }
  }
  Complete(host);
  return host;
}

TEST(HostSolver, EqualsBruteForceForSeveralModelsOnRandomHosts) {
  std::mt19937 random(7);
  for (int round = 0; round < 60; ++round) {
    const int n = 3 + static_cast<int>(random() % 4);
    PartKind kind(RandomHost(random, n));
    const DeviceSet all = (DeviceSet{1} << n) - 1;
    std::vector<HostItem> items;
    for (int i = 0; i < 1 + static_cast<int>(random() % 3); ++i) {
      items.push_back(Item(kind, 1 + random() % 3, 1 + random() % 2, random() % 3 == 0 ? random() & all : all,
                           static_cast<int>(random() % 2)));
      if (random() % 2 == 0) items.back().running.push_back(SetsOf(all, items.back().ranks).front());
    }
    const DeviceSet free = random() % 2 == 0 ? all : random() & all;
    ExpectOptimal(kind, items, free, absl::StrCat("round ", round));
    if (HasFailure()) return;
  }
}

// Without shared edges the table over sets is the whole answer.
TEST(HostSolver, TheTableOverSetsEqualsBruteForceOnNineDevices) {
  std::mt19937 random(11);
  for (int round = 0; round < 4; ++round) {
    Host host = RandomHost(random, 9);
    for (Link& link : host.links) {
      if (link.kind == PathKind::kSys) link.kind = PathKind::kPhb;
    }
    host.edges.clear();
    PartKind kind(host);
    const DeviceSet all = (DeviceSet{1} << 9) - 1;
    ExpectOptimal(kind, {Item(kind, 3, 2, all), Item(kind, 2, 1, all)}, all, absl::StrCat("round ", round));
  }
}

// Two models that have room on both sockets only, so that both cross between them.
TEST(HostSolver, GroupsInEachOthersWayEqualBruteForceOnNineAndTenDevices) {
  std::mt19937 random(13);
  int in_the_way = 0;
  for (int round = 0; round < 40; ++round) {
    const int n = 9 + round % 2;
    PartKind kind(RandomHost(random, n));
    const DeviceSet all = (DeviceSet{1} << n) - 1;
    const auto some = [&] { return static_cast<DeviceSet>((random() | random()) & all); };
    const std::vector<HostItem> items = {Item(kind, 4, 1, some()), Item(kind, 3, 1, some()), Item(kind, 2, 1, all)};
    ExpectOptimal(kind, items, all, absl::StrCat("round ", round));
    if (HasFailure()) return;
    const HostSolution found = SolveHost(kind.scores, kind.residual, items, all);
    EXPECT_TRUE(found.exact) << "round " << round;
    int64_t alone = 0;
    for (const HostGroup& group : found.groups) alone += kind.scores.Cost(group.set, items[group.item].workload);
    in_the_way += alone != found.cost.sum_ns;
  }
  EXPECT_GT(in_the_way, 0);
}

TEST(HostSolver, TwelveEqualDevicesOnTwoSocketsEqualBruteForce) {
  std::vector<std::string> rows(12);
  std::vector<int> numa;
  for (int i = 0; i < 12; ++i) {
    numa.push_back(i / 6);
    for (int j = 0; j < 12; ++j) {
      absl::StrAppend(&rows[i], i == j ? "X" : i / 3 == j / 3 ? "PIX" : i / 6 == j / 6 ? "NODE" : "SYS", " ");
    }
  }
  PartKind kind(WithMemory(HostOf("A100", std::vector<absl::string_view>(rows.begin(), rows.end()), numa), 80 * kGiB));
  const DeviceSet all = (DeviceSet{1} << 12) - 1;
  ExpectOptimal(kind, {Item(kind, 4, 3, all)}, all, "three groups of four");
  EXPECT_TRUE(SolveHost(kind.scores, kind.residual, {Item(kind, 4, 3, all)}, all).exact);
}

TEST(HostSolver, RelabellingTheDevicesChangesNoCost) {
  std::mt19937 random(3);
  for (int round = 0; round < 20; ++round) {
    const Host host = RandomHost(random, 6);
    std::vector<int> order = {0, 1, 2, 3, 4, 5};
    std::shuffle(order.begin(), order.end(), random);
    Host other = host;
    for (int i = 0; i < 6; ++i) {
      other.devices[i] = host.devices[order[i]];
      for (int j = 0; j < 6; ++j) other.link(i, j) = host.link(order[i], order[j]);
      for (size_t e = 0; e < host.edges.size(); ++e) other.edges[e].side[i] = host.edges[e].side[order[i]];
    }
    PartKind a(host), b(other);
    const std::vector<HostItem> mine = {Item(a, 2, 2, 63)}, theirs = {Item(b, 2, 2, 63)};
    const PlanCost x = SolveHost(a.scores, a.residual, mine, 63).cost;
    const PlanCost y = SolveHost(b.scores, b.residual, theirs, 63).cost;
    EXPECT_FALSE(Better(x, y) || Better(y, x)) << "round " << round;
  }
}

TEST(HostSolver, AddingADeviceNeverLowersTheOptimum) {
  std::mt19937 random(5);
  for (int round = 0; round < 40; ++round) {
    PartKind kind(RandomHost(random, 7));
    for (const int ranks : {2, 3}) {
      const std::vector<HostItem> items = {Item(kind, ranks, 2, 127)};
      const HostSolution fewer = SolveHost(kind.scores, kind.residual, items, 63);
      const HostSolution more = SolveHost(kind.scores, kind.residual, items, 127);
      ASSERT_GE(more.placed[0], fewer.placed[0]);
      if (more.placed[0] > fewer.placed[0]) continue;
      EXPECT_LE(more.cost.worst_ratio_permille, fewer.cost.worst_ratio_permille) << "round " << round;
    }
  }
}

// NVIDIA's allocator, by its published rule: points per pair, the partition with the most, its best set first.
int64_t PairPoints(const Link& link) {
  switch (link.kind) {
    case PathKind::kNvLink:
      return 100 * link.nvlinks;
    case PathKind::kPix:
      return 50;
    case PathKind::kPxb:
      return 40;
    case PathKind::kPhb:
      return 30;
    case PathKind::kNode:
      return 20;
    default:
      return 10;
  }
}

TEST(HostSolver, NeverWorseThanTheSumOfPairPoints) {
  const auto hosts = Machines();
  int better = 0;
  for (const auto& [name, host] : hosts) {
    PartKind kind(host);
    const DeviceSet all = (DeviceSet{1} << host.size()) - 1;
    for (DeviceSet free = 1; free <= all; ++free) {
      for (const int ranks : {2, 4}) {
        if (CountOf(free) < ranks) continue;
        DeviceSet chosen = 0;
        int64_t most = -1;
        for (const DeviceSet set : SetsOf(free, ranks)) {
          int64_t points = 0;
          const auto members = MembersOf(set);
          for (size_t i = 0; i < members.size(); ++i) {
            for (size_t j = i + 1; j < members.size(); ++j) points += PairPoints(host.link(members[i], members[j]));
          }
          if (points > most) most = points, chosen = set;
        }
        const HostItem item = Item(kind, ranks, 1, all);
        const HostSolution found = SolveHost(kind.scores, kind.residual, absl::MakeConstSpan(&item, 1), free);
        const int64_t theirs = kind.scores.Cost(chosen, item.workload);
        EXPECT_LE(found.cost.sum_ns, theirs) << name << " free " << free << " ranks " << ranks;
        better += found.cost.sum_ns < theirs;
      }
    }
  }
  EXPECT_GT(better, 0) << "and better somewhere, or there would be no point";
}

}  // namespace
}  // namespace tandem::placement
