#include "scheduler/core/prefix_index.h"

#include <algorithm>

#include "base/prefix_landmarks.h"
#include "scheduler/core/check.h"

namespace tandem::core {

namespace {

// Tokens up to and with a landmark, by its place. A list may be longer than we know landmarks.
Tokens UpTo(size_t place) {
  const int32_t blocks = kLandmarkBlocks[std::min(place, kLandmarkBlocks.size() - 1)];
  return {static_cast<int64_t>(kPrefixBlockTokens) * blocks};
}

}  // namespace

PrefixIndex::Holder& PrefixIndex::At(uint64_t landmark, GroupId group) {
  Holders& holders = entries_[landmark];
  const auto it = std::find_if(holders.begin(), holders.end(), [&](const Holder& h) { return h.group == group; });
  if (it != holders.end()) return *it;
  ++size_;
  return holders.emplace_back(Holder{group});
}

template <typename Change>
void PrefixIndex::Update(uint64_t landmark, GroupId group, Change change) {
  const auto entry = entries_.find(landmark);
  if (entry == entries_.end()) return;
  Holders& holders = entry->second;
  const auto it = std::find_if(holders.begin(), holders.end(), [&](const Holder& h) { return h.group == group; });
  if (it == holders.end()) return;
  change(*it);
  if (it->stored || it->pins > 0) return;
  *it = holders.back();
  holders.pop_back();
  --size_;
  if (holders.empty()) entries_.erase(entry);
}

bool PrefixIndex::Store(uint64_t landmark, GroupId group, size_t most) {
  if (size_ >= most) {
    bool known = false;
    Update(landmark, group, [&](Holder& holder) { holder.stored = known = true; });
    return known;
  }
  At(landmark, group).stored = true;
  return true;
}

void PrefixIndex::Evict(uint64_t landmark, GroupId group) {
  Update(landmark, group, [](Holder& holder) { holder.stored = false; });
}

Tokens PrefixIndex::Pin(absl::Span<const uint64_t> landmarks, GroupId group) {
  Tokens others;
  for (size_t i = 0; i < landmarks.size(); ++i) {
    if (At(landmarks[i], group).pins++ > 0) others = UpTo(i);
  }
  return others;
}

Tokens PrefixIndex::Unpin(absl::Span<const uint64_t> landmarks, GroupId group) {
  Tokens others;
  for (size_t i = 0; i < landmarks.size(); ++i) {
    Update(landmarks[i], group, [&](Holder& holder) {
      CORE_CHECK(holder.pins > 0, "landmark ", landmarks[i], " of group ", group.value, " is let go of twice");
      if (--holder.pins > 0) others = UpTo(i);
    });
  }
  return others;
}

void PrefixIndex::ForgetStored(GroupId group) {
  absl::erase_if(entries_, [&](auto& entry) {
    Holders& holders = entry.second;
    const auto it = std::find_if(holders.begin(), holders.end(), [&](const Holder& h) { return h.group == group; });
    if (it == holders.end()) return false;
    it->stored = false;
    if (it->pins > 0) return false;
    *it = holders.back();
    holders.pop_back();
    --size_;
    return holders.empty();
  });
}

absl::InlinedVector<PrefixIndex::Match, 8> PrefixIndex::Find(absl::Span<const uint64_t> landmarks) const {
  absl::InlinedVector<Match, 8> matches;
  for (size_t i = 0; i < landmarks.size() && i < kLandmarkBlocks.size(); ++i) {
    const auto entry = entries_.find(landmarks[i]);
    if (entry == entries_.end()) break;
    const Tokens tokens = UpTo(i);
    for (const Holder& holder : entry->second) {
      auto match =
          std::find_if(matches.begin(), matches.end(), [&](const Match& m) { return m.group == holder.group; });
      if (match == matches.end()) match = matches.insert(matches.end(), Match{holder.group});
      match->tokens = tokens;
      if (holder.pins > 0) match->pinned = tokens;
    }
  }
  std::stable_sort(matches.begin(), matches.end(), [](const Match& a, const Match& b) {
    return a.tokens != b.tokens ? a.tokens < b.tokens : b.group < a.group;
  });
  return matches;
}

std::map<GroupId, std::vector<uint64_t>> PrefixIndex::Stored() const {
  std::map<GroupId, std::vector<uint64_t>> stored;
  for (const auto& [landmark, holders] : entries_) {
    for (const Holder& holder : holders) {
      if (holder.stored) stored[holder.group].push_back(landmark);
    }
  }
  for (auto& [group, landmarks] : stored) std::sort(landmarks.begin(), landmarks.end());
  return stored;
}

std::map<GroupId, std::map<uint64_t, int>> PrefixIndex::Pinned() const {
  std::map<GroupId, std::map<uint64_t, int>> pinned;
  for (const auto& [landmark, holders] : entries_) {
    for (const Holder& holder : holders) {
      if (holder.pins > 0) pinned[holder.group][landmark] = holder.pins;
    }
  }
  return pinned;
}

}  // namespace tandem::core
