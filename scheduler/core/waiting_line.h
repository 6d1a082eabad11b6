// The requests of one model that wait, in the order in which they are served: higher priority first; within one
// priority the tenants share, and a tenant's own requests go by arrival.
//
// Think of a shop that writes down what each customer has carried away and always serves the one with the least on the
// list (virtual token counter, OSDI'24). A dispatched request is charged its prompt and the output that is expected of
// it; at its end the account is settled: what it produced beyond is charged, what it did not produce is prepaid for the
// tenant's next ones. Three rules make that fair. A counter never falls. A tenant that comes back from doing nothing
// starts at `floor`, the least of those that wait: it gains no credit by staying away. And the counters of two tenants
// that both keep waiting differ by at most what one charge and the work under way can add; the random test measures it.
//
// Accounts of tenants with nothing waiting are kept while they owe something, at most kMostIdle per priority.
#ifndef TANDEM_SCHEDULER_CORE_WAITING_LINE_H_
#define TANDEM_SCHEDULER_CORE_WAITING_LINE_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/strings/string_view.h"
#include "scheduler/core/types.h"

namespace tandem::core {

class WaitingLine {
 public:
  static constexpr size_t kMostIdle = 256;

  // Of one waiting request: what it brings (prompt and known output), and the most that it may still produce.
  struct Size {
    Tokens brings, may_produce;
    Tokens Charge(Tokens expected_output) const { return brings + std::min(may_produce, expected_output); }
  };
  struct Account {
    Tokens counter;
    Tokens prepaid;
    absl::btree_map<Serial, Size> waiting;
  };
  // One priority.
  struct Class {
    Tokens floor;  // where a tenant that comes to wait starts at least; never falls
    size_t waiting = 0;
    std::map<std::string, Account, std::less<>> accounts;
    absl::btree_set<std::pair<Tokens, absl::string_view>> backlogged;  // (counter, key of `accounts`)
  };
  // What is served before a request if nobody else comes.
  struct Ahead {
    int64_t requests = 0;
    Tokens tokens;
  };

  void Join(int priority, const std::string& tenant, Serial serial, Size size);
  // False: it was not there.
  bool Leave(int priority, const std::string& tenant, Serial serial);
  // One of the tenant's requests was dispatched.
  void Charge(int priority, const std::string& tenant, Tokens tokens);
  // It ended, having been charged `charged` in all.
  void Settle(int priority, const std::string& tenant, Tokens charged, Tokens used);

  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  bool Contains(int priority, const std::string& tenant, Serial serial) const;
  Ahead AheadOf(int priority, const std::string& tenant, Serial serial, Tokens expected_output) const;
  // Where each of those that wait stands, to be sorted by whoever wants to know all positions: AheadOf, asked for each,
  // would walk the line as often as it is long.
  struct Place {
    int rank = 0;  // -priority
    Tokens turn;   // at this counter its tenant's turn comes to it
    uint32_t tenant = 0;
    Serial serial = 0;
    auto operator<=>(const Place&) const = default;
  };
  std::vector<Place> Places(Tokens expected_output) const;
  // Of all that wait, as if each produced what is expected.
  Tokens AllTokens(Tokens expected_output) const {
    return brings_ + Tokens{static_cast<int64_t>(size_) * expected_output.value};
  }

  // Calls visit(serial) in the order of service within the highest priority that waits, until it returns false; at most
  // `per_tenant` of each tenant.
  template <typename Visit>
  void Walk(size_t per_tenant, Visit&& visit) const {
    for (const auto& [key, rank] : classes_) {
      if (rank.waiting == 0) continue;
      for (const auto& [counter, tenant] : rank.backlogged) {
        size_t seen = 0;
        for (const auto& [serial, size] : rank.accounts.find(tenant)->second.waiting) {
          if (++seen > per_tenant) break;
          if (!visit(serial)) return;
        }
      }
      return;
    }
  }
  // Calls visit(serial, size) for all, in no order that matters.
  template <typename Visit>
  void ForEach(Visit&& visit) const {
    for (const auto& [key, rank] : classes_) {
      for (const auto& [tenant, account] : rank.accounts) {
        for (const auto& [serial, size] : account.waiting) visit(serial, size);
      }
    }
  }

  // By -priority, so that the highest comes first.
  const std::map<int, Class>& classes() const { return classes_; }
  // For loading a dump, after those that waited have joined.
  void Restore(int priority, Tokens floor) { classes_[-priority].floor = floor; }
  void Restore(int priority, const std::string& tenant, Tokens counter, Tokens prepaid);

 private:
  static void SetCounter(Class& rank, const std::string& tenant, Account& account, Tokens counter);
  // An account with nothing waiting, brought up to the floor.
  static void Lift(const Class& rank, Account& account);
  static void Prune(Class& rank);

  std::map<int, Class> classes_;
  size_t size_ = 0;
  Tokens brings_;
};

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_WAITING_LINE_H_
