#include "scheduler/core/waiting_line.h"

#include <algorithm>

#include "scheduler/core/check.h"

namespace tandem::core {
namespace {

// The counter at which a tenant's next request is served, after `charges` for those before it.
Tokens TurnOf(const WaitingLine::Account& account, Tokens charges) {
  return account.counter + std::max(Tokens{}, charges - account.prepaid);
}

}  // namespace

void WaitingLine::SetCounter(Class& rank, const std::string& tenant, Account& account, Tokens counter) {
  CORE_CHECK(counter >= account.counter, "a counter falls from ", account.counter.value, " to ", counter.value);
  if (counter == account.counter) return;
  if (!account.waiting.empty()) {
    const auto at = rank.backlogged.find({account.counter, tenant});
    const absl::string_view key = at->second;
    rank.backlogged.erase(at);
    rank.backlogged.insert({counter, key});
  }
  account.counter = counter;
}

void WaitingLine::Lift(const Class& rank, Account& account) {
  account.counter = std::max(account.counter, rank.floor);
  account.prepaid = std::min(account.prepaid, account.counter - rank.floor);
}

void WaitingLine::Join(int priority, const std::string& tenant, Serial serial, Size size) {
  Class& rank = classes_[-priority];
  const auto it = rank.accounts.try_emplace(tenant).first;
  Account& account = it->second;
  if (account.waiting.empty()) {
    Lift(rank, account);
    rank.backlogged.insert({account.counter, it->first});
  }
  const bool fresh = account.waiting.emplace(serial, size).second;
  CORE_CHECK(fresh, "request ", serial, " waits twice");
  ++rank.waiting;
  ++size_;
  brings_ += size.brings;
}

bool WaitingLine::Leave(int priority, const std::string& tenant, Serial serial) {
  const auto rank = classes_.find(-priority);
  if (rank == classes_.end()) return false;
  const auto it = rank->second.accounts.find(tenant);
  if (it == rank->second.accounts.end()) return false;
  const auto waiter = it->second.waiting.find(serial);
  if (waiter == it->second.waiting.end()) return false;
  brings_ -= waiter->second.brings;
  it->second.waiting.erase(waiter);
  if (it->second.waiting.empty()) rank->second.backlogged.erase({it->second.counter, it->first});
  --rank->second.waiting;
  --size_;
  return true;
}

void WaitingLine::Charge(int priority, const std::string& tenant, Tokens tokens) {
  CORE_CHECK(tokens.value >= 0, "a charge of ", tokens.value);
  Class& rank = classes_[-priority];
  const auto it = rank.accounts.try_emplace(tenant).first;
  Account& account = it->second;
  if (account.waiting.empty()) Lift(rank, account);
  const Tokens prepaid = std::min(account.prepaid, tokens);
  account.prepaid -= prepaid;
  SetCounter(rank, it->first, account, account.counter + tokens - prepaid);
  // With nobody left waiting, who comes next is as far as the one served last.
  rank.floor = std::max(rank.floor, rank.backlogged.empty() ? account.counter : rank.backlogged.begin()->first);
  Prune(rank);
}

void WaitingLine::Settle(int priority, const std::string& tenant, Tokens charged, Tokens used) {
  if (used > charged) return Charge(priority, tenant, used - charged);
  const auto rank = classes_.find(-priority);
  if (rank == classes_.end()) return;
  const auto it = rank->second.accounts.find(tenant);
  if (it == rank->second.accounts.end()) return;  // at the floor, where nothing is given back
  Account& account = it->second;
  account.prepaid += charged - used;
  if (account.waiting.empty()) Lift(rank->second, account);
}

void WaitingLine::Prune(Class& rank) {
  if (rank.accounts.size() <= rank.backlogged.size() + kMostIdle) return;
  std::erase_if(rank.accounts, [&](const auto& entry) {
    const Account& account = entry.second;
    return account.waiting.empty() && account.counter <= rank.floor;
  });
  // Half of the places stay free, so that this is not done again at once.
  if (rank.accounts.size() <= rank.backlogged.size() + kMostIdle / 2) return;
  std::erase_if(rank.accounts, [](const auto& entry) { return entry.second.waiting.empty(); });
}

bool WaitingLine::Contains(int priority, const std::string& tenant, Serial serial) const {
  const auto rank = classes_.find(-priority);
  if (rank == classes_.end()) return false;
  const auto it = rank->second.accounts.find(tenant);
  return it != rank->second.accounts.end() && it->second.waiting.contains(serial);
}

std::vector<WaitingLine::Place> WaitingLine::Places(Tokens expected_output) const {
  std::vector<Place> places;
  places.reserve(size_);
  for (const auto& [key, rank] : classes_) {
    uint32_t tenant = 0;
    for (const auto& [name, account] : rank.accounts) {  // by name, which is how equal turns are told apart
      Tokens charges;
      for (const auto& [serial, size] : account.waiting) {
        places.push_back({key, TurnOf(account, charges), tenant, serial});
        charges += size.Charge(expected_output);
      }
      ++tenant;
    }
  }
  return places;
}

WaitingLine::Ahead WaitingLine::AheadOf(int priority, const std::string& tenant, Serial serial,
                                        Tokens expected_output) const {
  Ahead ahead;
  const auto count = [&](const Size& size) {
    ++ahead.requests;
    ahead.tokens += size.Charge(expected_output);
  };
  for (const auto& [key, rank] : classes_) {
    if (key > -priority) break;
    if (key < -priority) {
      for (const auto& [name, account] : rank.accounts) {
        for (const auto& [other, size] : account.waiting) count(size);
      }
      continue;
    }
    const auto own = rank.accounts.find(tenant);
    if (own == rank.accounts.end()) break;
    Tokens charges;
    for (const auto& [other, size] : own->second.waiting) {
      if (other >= serial) break;
      count(size);
      charges += size.Charge(expected_output);
    }
    const std::pair<Tokens, absl::string_view> mine(TurnOf(own->second, charges), tenant);
    for (const auto& [counter, name] : rank.backlogged) {
      if (std::pair(counter, name) >= mine) break;
      if (name == tenant) continue;
      const Account& account = rank.accounts.find(name)->second;
      Tokens theirs;
      for (const auto& [other, size] : account.waiting) {
        if (std::pair(TurnOf(account, theirs), name) >= mine) break;
        count(size);
        theirs += size.Charge(expected_output);
      }
    }
  }
  return ahead;
}

void WaitingLine::Restore(int priority, const std::string& tenant, Tokens counter, Tokens prepaid) {
  Class& rank = classes_[-priority];
  const auto it = rank.accounts.try_emplace(tenant).first;
  it->second.prepaid = prepaid;
  SetCounter(rank, it->first, it->second, counter);
}

}  // namespace tandem::core
