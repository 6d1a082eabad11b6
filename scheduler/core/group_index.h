// Where the group of an id is. Ids count up from the first that a leader gives, so 64 in a row share a page of
// pointers: the index of ten thousand groups is 80 KiB, which stays in a processor's cache, where a hash table with a
// place for each would take four times that and lose most of it between two heartbeats.
//
// Owned by ClusterState, looked up and never iterated. A page goes with the last of its groups.
#ifndef TANDEM_SCHEDULER_CORE_GROUP_INDEX_H_
#define TANDEM_SCHEDULER_CORE_GROUP_INDEX_H_

#include <array>
#include <cstdint>
#include <memory>

#include "absl/container/flat_hash_map.h"
#include "scheduler/core/types.h"

namespace tandem::core {

struct Group;

class GroupIndex {
 public:
  // Null where there is none.
  Group* Find(GroupId id) const {
    const auto page = pages_.find(id.value / kOfPage);
    return page == pages_.end() ? nullptr : page->second->groups[id.value % kOfPage];
  }

  // REQUIRES: the id is not there yet.
  void Add(GroupId id, Group* group) {
    std::unique_ptr<Page>& page = pages_[id.value / kOfPage];
    if (page == nullptr) page = std::make_unique<Page>();
    page->groups[id.value % kOfPage] = group;
    ++page->used;
  }

  // REQUIRES: the id is there.
  void Remove(GroupId id) {
    const auto page = pages_.find(id.value / kOfPage);
    page->second->groups[id.value % kOfPage] = nullptr;
    if (--page->second->used == 0) pages_.erase(page);
  }

 private:
  static constexpr uint64_t kOfPage = 64;
  struct Page {
    std::array<Group*, kOfPage> groups = {};
    uint32_t used = 0;
  };

  absl::flat_hash_map<uint64_t, std::unique_ptr<Page>> pages_;
};

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_GROUP_INDEX_H_
