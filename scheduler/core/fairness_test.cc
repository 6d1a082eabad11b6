// What the waiting line promises to tenants, measured on the whole core: with sizes, tenants and ends drawn at random,
// tenants that always have something waiting get equal work within a bound, counters never fall, and nobody waits
// while there is a free place.
#include <algorithm>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "scheduler/core/core.h"
#include "scheduler/core/invariants.h"
#include "scheduler/core/waiting_line.h"

namespace tandem::core {
namespace {

constexpr int kPlaces = 6;
constexpr int64_t kLongestPrompt = 600, kLongestOutput = 400;
// The bound of the virtual token counter: twice the larger of one charge and all the work that may be under way.
constexpr int64_t kBound = 2 * kPlaces * (kLongestPrompt + kLongestOutput);

class Shop {
 public:
  Shop(uint64_t seed, int tenants) : random_(seed * 0x9e3779b97f4a7c15u + 1) {
    CoreOptions options;
    options.engine_queue = 0;
    options.suspect_after = options.fence_after = Seconds(100000);  // nobody sends heartbeats here
    core_ = Core(options);
    core_.Step(now_, LeaderStarted{1, 1});
    ModelSpec spec;
    spec.name = "chat";
    spec.max_model_len = 4096;
    spec.max_sequences = kPlaces;
    spec.costs = {{1, "", {1 << 20}, {1}}};
    core_.Step(now_, ModelConfigured{spec});
    WorkerAttached worker;
    worker.device.node = "box";
    worker.device.memory_total = worker.device.memory_budget = worker.device.memory_free = {int64_t{1} << 30};
    core_.Step(now_, worker);
    const GroupId group{uint64_t{1} << 32 | 1};
    core_.Step(now_, GroupFormed{{0}, group, {1, 1}});
    core_.Step(now_, GroupReady{{0}, group, {1, 1}, 1 << 16, 16, kPlaces, 4096, {100}, "cpu"});
    for (int i = 0; i < tenants; ++i) tenants_.push_back(absl::StrCat("t", i));
    // Each tenant has a taste of its own: long prompts, long answers, or anything.
    for (int i = 0; i < tenants; ++i) tastes_.push_back({1 + Draw(kLongestPrompt), 1 + Draw(kLongestOutput)});
    for (int i = 0; i < tenants; ++i) {
      for (int n = 0; n < 2 * kPlaces; ++n) Arrive(i);  // more than can run: something always waits
    }
  }

  // One of those that run ends, and its tenant asks again.
  void Round() {
    now_ = now_ + Milliseconds(1 + Draw(50));
    auto it = running_.begin();
    std::advance(it, Draw(static_cast<int64_t>(running_.size())));
    const auto [id, run] = *it;
    running_.erase(it);
    const int64_t output = 1 + Draw(run.most);
    Take(core_.Step(now_, RequestEnded{id, run.attempt, EndedHow::kStopped, {output}, ""}));
    work_[run.tenant] += run.prompt + output;
    Arrive(run.tenant);
    Check();
  }

  int64_t work(int tenant) const { return work_.at(tenant); }

 private:
  struct Run {
    int tenant;
    int64_t prompt, most;
    Attempt attempt;
  };

  int64_t Draw(int64_t bound) {
    random_ ^= random_ << 13, random_ ^= random_ >> 7, random_ ^= random_ << 17;
    return static_cast<int64_t>(random_ % static_cast<uint64_t>(bound));
  }

  void Arrive(int tenant) {
    const auto [prompt, output] = tastes_[tenant];
    const Run run{tenant, 1 + Draw(prompt), 1 + Draw(output), {}};
    RequestArrived event;
    event.request = {1, ++last_};
    event.model = "chat";
    event.prompt = {run.prompt};
    event.max_tokens = Tokens{run.most};
    event.tenant = tenants_[tenant];
    asked_[event.request] = run;
    Take(core_.Step(now_, event));
  }

  void Take(const Actions& actions) {
    for (const Action& action : actions) {
      ASSERT_FALSE(std::holds_alternative<FailRequest>(action));
      const auto* assign = std::get_if<AssignRequest>(&action);
      if (assign == nullptr) continue;
      Run run = asked_.at(assign->request);
      run.attempt = assign->attempt;
      running_[assign->request] = run;
      Take(core_.Step(now_, RequestStarted{assign->request, assign->attempt, {}, {}}));
    }
  }

  void Check() {
    ASSERT_TRUE(CheckInvariants(core_.state()).empty()) << CheckInvariants(core_.state()).front();
    const WaitingLine& line = core_.state().models[0].queue;
    ASSERT_TRUE(line.empty() || running_.size() == kPlaces) << line.size() << " wait, " << running_.size() << " run";
    const auto& rank = line.classes().at(0);
    std::vector<int64_t> counters;
    for (const auto& [tenant, account] : rank.accounts) {
      ASSERT_GE(account.counter.value, counters_[tenant]) << tenant;
      counters_[tenant] = account.counter.value;
      if (!account.waiting.empty()) counters.push_back(account.counter.value);
    }
    if (counters.size() < 2) return;
    const auto [least, most] = std::minmax_element(counters.begin(), counters.end());
    ASSERT_LE(*most - *least, kBound);
  }

  uint64_t random_;
  Core core_{CoreOptions{}};
  Instant now_{1};
  std::vector<std::string> tenants_;
  std::vector<std::pair<int64_t, int64_t>> tastes_;  // longest prompt and output
  uint64_t last_ = 0;
  std::map<RequestId, Run> asked_, running_;
  std::map<int, int64_t> work_;
  std::map<std::string, int64_t> counters_;
};

TEST(FairnessTest, BackloggedTenantsGetEqualWork) {
  for (uint64_t seed = 1; seed <= 20 && !HasFatalFailure(); ++seed) {
    SCOPED_TRACE(seed);
    const int tenants = 2 + static_cast<int>(seed % 2);
    Shop shop(seed, tenants);
    for (int round = 0; round < 3000 && !HasFatalFailure(); ++round) shop.Round();
    for (int tenant = 1; tenant < tenants; ++tenant) {
      EXPECT_LE(std::abs(shop.work(tenant) - shop.work(0)), kBound) << shop.work(tenant) << " " << shop.work(0);
    }
  }
}

TEST(FairnessTest, AnIdleTenantGainsNoCredit) {
  WaitingLine line;
  line.Join(0, "busy", 1, {{100}, {100}});
  for (Serial serial = 1; serial < 50; ++serial) {
    line.Join(0, "busy", serial + 1, {{100}, {100}});
    line.Leave(0, "busy", serial);
    line.Charge(0, "busy", {200});
  }
  line.Join(0, "away", 100, {{100}, {100}});
  const auto& accounts = line.classes().at(0).accounts;
  EXPECT_EQ(accounts.at("away").counter.value, accounts.at("busy").counter.value);
}

TEST(FairnessTest, WhatWasNotProducedIsPrepaid) {
  WaitingLine line;
  for (Serial serial = 1; serial <= 3; ++serial) line.Join(0, "a", serial, {{100}, {400}});
  line.Leave(0, "a", 1);
  line.Charge(0, "a", {500});
  line.Settle(0, "a", {500}, {110});
  line.Leave(0, "a", 2);
  line.Charge(0, "a", {500});
  EXPECT_EQ(line.classes().at(0).accounts.at("a").counter.value, 500 + 110);
}

// The positions of all, found at once, are those that AheadOf finds one by one.
TEST(FairnessTest, PlacesAreInTheOrderOfService) {
  uint64_t random = 88172645463325252u;
  const auto draw = [&](uint64_t below) {
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    return random % below;
  };
  for (int round = 0; round < 50; ++round) {
    WaitingLine line;
    struct Waiter {
      int priority;
      std::string tenant;
    };
    std::map<Serial, Waiter> waiters;
    for (Serial serial = 1; serial <= 80; ++serial) {
      const Waiter waiter{static_cast<int>(draw(3)) - 1, absl::StrCat("t", draw(5))};
      line.Join(waiter.priority, waiter.tenant, serial,
                {{static_cast<int64_t>(draw(4) * 50)}, {static_cast<int64_t>(draw(4) * 50)}});
      waiters[serial] = waiter;
      if (draw(3) > 0) continue;
      const auto served = waiters.begin();
      line.Leave(served->second.priority, served->second.tenant, served->first);
      line.Charge(served->second.priority, served->second.tenant, {200});
      line.Settle(served->second.priority, served->second.tenant, {200}, {static_cast<int64_t>(draw(3) * 100)});
      waiters.erase(served);
    }
    const Tokens expected{60};
    std::vector<WaitingLine::Place> places = line.Places(expected);
    std::sort(places.begin(), places.end());
    ASSERT_EQ(places.size(), waiters.size());
    for (size_t i = 0; i < places.size(); ++i) {
      const Waiter& waiter = waiters.at(places[i].serial);
      EXPECT_EQ(line.AheadOf(waiter.priority, waiter.tenant, places[i].serial, expected).requests,
                static_cast<int64_t>(i));
    }
  }
}

TEST(FairnessTest, AccountsOfPassersByAreForgotten) {
  WaitingLine line;
  for (Serial serial = 1; serial <= 5000; ++serial) {
    const std::string tenant = absl::StrCat("once", serial);
    line.Join(0, tenant, serial, {{10}, {10}});
    line.Leave(0, tenant, serial);
    line.Charge(0, tenant, {20});
    line.Settle(0, tenant, {20}, {25});
  }
  EXPECT_LE(line.classes().at(0).accounts.size(), WaitingLine::kMostIdle + 1);
}

}  // namespace
}  // namespace tandem::core
