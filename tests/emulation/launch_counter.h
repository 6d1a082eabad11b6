// Puts the accesses of lanes together to requests of warps, while one launch runs. See access_counts.h for the rules.
//
// Owned by the block that runs; used by its thread only.
#ifndef TANDEM_TESTS_EMULATION_LAUNCH_COUNTER_H_
#define TANDEM_TESTS_EMULATION_LAUNCH_COUNTER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/emulation/access_counts.h"

namespace tandem::emulation {

// What one lane did. Shared memory: the address is the offset in the block's; global memory: the number of the
// allocation in the upper bits, the offset in it in the lower ones.
struct Access {
  uintptr_t place = 0;
  uint64_t address = 0;
  uint32_t bytes = 0;
  AccessKind kind = AccessKind::kSharedRead;
};

class LaunchCounter {
 public:
  explicit LaunchCounter(const std::string& kernel);
  // Adds what was counted to what TakeCounts gives.
  ~LaunchCounter();
  LaunchCounter(const LaunchCounter&) = delete;

  void BeginBlock() { ++counts_.blocks; }
  void PassBarrier() { ++counts_.barriers; }

  // Notes an access of a lane in its list; of global memory, only what the device has allocated.
  void NoteShared(std::vector<Access>& lane, AccessKind kind, size_t offset, size_t bytes, uintptr_t place);
  void NoteGlobal(std::vector<Access>& lane, AccessKind kind, const void* address, size_t bytes, uintptr_t place);

  // The lanes of one warp have met or ended: makes requests of their lists and clears those. `lanes[i]` is null for a
  // lane that takes no part.
  void Assemble(std::vector<Access>* const (&lanes)[32]);

 private:
  struct Allocation {
    uintptr_t begin = 0;
    uintptr_t end = 0;
    std::vector<bool> touched[2];  // sectors, read and written
  };
  struct Entry {
    Access access;
    uint32_t nth = 0;  // of its lane at its place
    int32_t lane = 0;
  };

  void Request(const Entry* begin, const Entry* end);

  KernelCounts counts_;
  std::vector<Allocation> allocations_;  // by address
  size_t latest_ = 0;                    // the one that was touched last
  std::vector<Entry> entries_;           // room for Assemble
};

}  // namespace tandem::emulation

#endif  // TANDEM_TESTS_EMULATION_LAUNCH_COUNTER_H_
