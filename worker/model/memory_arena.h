// One stretch of memory, taken at once and handed out front to back.
//
// The pages are asked to be huge: weights are streamed from end to end at every token, and the walk through 4 KiB pages
// costs more than the reading. Owned by one thread; nothing is given back before the arena ends.
#ifndef TANDEM_WORKER_MODEL_MEMORY_ARENA_H_
#define TANDEM_WORKER_MODEL_MEMORY_ARENA_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem::worker {

class MemoryArena {
 public:
  MemoryArena() = default;  // Holds nothing.
  ~MemoryArena();
  MemoryArena(MemoryArena&& other) noexcept;
  MemoryArena& operator=(MemoryArena&& other) noexcept;

  // Zeroed memory. RESOURCE_EXHAUSTED with the number of bytes if the system has no address space for it.
  static absl::StatusOr<MemoryArena> Map(int64_t bytes);

  // Takes every page now, so that no later write is the one that the system refuses, and what is resident is what was
  // asked for. Only pages that are written later anyway may be left out.
  absl::Status Reside();

  // The next `bytes`, on a cache line. REQUIRES: all that was taken fits in the mapped size.
  uint8_t* Take(int64_t bytes);
  float* TakeFloats(int64_t count) { return reinterpret_cast<float*>(Take(count * 4)); }

  int64_t taken() const { return taken_; }
  int64_t bytes() const { return bytes_; }

 private:
  uint8_t* base_ = nullptr;
  int64_t bytes_ = 0;   // as asked for
  int64_t mapped_ = 0;  // rounded up to whole pages
  int64_t taken_ = 0;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_MODEL_MEMORY_ARENA_H_
