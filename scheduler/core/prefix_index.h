// Which groups of a model hold which beginnings of prompts, by the landmarks that engines report
// (base/prefix_landmarks.h), and by those of the requests that run: what is being computed now will be held.
//
// Engines let go of a beginning from its end, so who holds a landmark mostly holds those before it. A guess that is
// wrong costs prefill, never an answer. Bounded: what engines report beyond `most` is not taken; pins are as many as
// running requests have landmarks. The hash table is walked only where its order cannot show. Pure data of the core.
#ifndef TANDEM_SCHEDULER_CORE_PREFIX_INDEX_H_
#define TANDEM_SCHEDULER_CORE_PREFIX_INDEX_H_

#include <cstdint>
#include <map>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/types/span.h"
#include "scheduler/core/types.h"

namespace tandem::core {

class PrefixIndex {
 public:
  struct Match {
    GroupId group;
    Tokens tokens;  // of the beginning, that the group holds at least
    Tokens pinned;  // of which requests that run there have too
  };

  // What the group's engine holds. False when the index has `most` entries, and did not take it.
  bool Store(uint64_t landmark, GroupId group, size_t most);
  void Evict(uint64_t landmark, GroupId group);
  // A request with these landmarks, from the first on, began to take room there, or ended. How many tokens of its
  // beginning others pin there too.
  Tokens Pin(absl::Span<const uint64_t> landmarks, GroupId group);
  Tokens Unpin(absl::Span<const uint64_t> landmarks, GroupId group);
  // What the group's engine reported is void. Linear in the index, as is Stored.
  void ForgetStored(GroupId group);

  // Each group that holds some of the beginning, those that hold most last. One lookup for each landmark that anybody
  // holds, and one more.
  absl::InlinedVector<Match, 8> Find(absl::Span<const uint64_t> landmarks) const;

  bool empty() const { return entries_.empty(); }
  size_t size() const { return size_; }
  std::map<GroupId, std::vector<uint64_t>> Stored() const;    // in order
  std::map<GroupId, std::map<uint64_t, int>> Pinned() const;  // how often

 private:
  struct Holder {
    GroupId group;
    int32_t pins = 0;
    bool stored = false;
  };
  using Holders = absl::InlinedVector<Holder, 2>;
  Holder& At(uint64_t landmark, GroupId group);
  // The holder, if there is one, is changed by `change`, and goes when nothing is left of it.
  template <typename Change>
  void Update(uint64_t landmark, GroupId group, Change change);

  absl::flat_hash_map<uint64_t, Holders> entries_;
  size_t size_ = 0;  // holders in all
};

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_PREFIX_INDEX_H_
