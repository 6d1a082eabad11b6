// The shared memory of a block, and a note of who touched what since when.
//
// Two accesses of one place by different threads, at least one of them a write, have to be parted by a barrier that
// both threads passed: __syncthreads, or __syncwarp with the full mask for two threads of a warp. A shuffle orders
// nothing. What is not parted so is a race, and is reported with the kernel, the array, both threads and the place.
// Notes are kept for every two bytes.
#ifndef TANDEM_TESTS_EMULATION_SHARED_MEMORY_H_
#define TANDEM_TESTS_EMULATION_SHARED_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace tandem::emulation {

class SharedMemory {
 public:
  static constexpr size_t kStaticBytes = 48 << 10;
  static constexpr size_t kMostBytes = 99 << 10;  // what every architecture of ours gives to one block

  struct Array {
    size_t begin = 0;  // bytes
    size_t end = 0;
  };

  SharedMemory();

  // A new block begins. Contents are bytes of 0xff: not a number in every floating type.
  // `most_bytes`: of static and dynamic arrays together.
  void Begin(const std::string* kernel, size_t dynamic_bytes, size_t most_bytes);

  // The array that `key` stands for, the same one for all threads of the block.
  Array Static(const void* key, const char* name, size_t bytes, size_t alignment);
  Array Dynamic();

  void PassBarrier() { ++block_time_; }
  void PassWarpBarrier(int32_t warp) { ++warp_times_[static_cast<size_t>(warp)]; }

  // False after an access out of the array's bounds or at a wrong alignment, which is reported; nothing was touched.
  bool Read(const Array& array, ptrdiff_t offset, void* to, size_t bytes, size_t alignment);
  bool Write(const Array& array, ptrdiff_t offset, const void* from, size_t bytes, size_t alignment);

 private:
  static constexpr size_t kGrain = 2;
  static constexpr int32_t kNobody = -1;
  static constexpr int32_t kSeveral = -2;

  struct Note {
    uint64_t written = 0;  // block time of the last write
    uint64_t read = 0;
    uint32_t written_warp_time = 0;
    uint32_t read_warp_time = 0;  // latest among the readers
    int32_t writer = kNobody;
    int32_t reader = kNobody;
    int32_t reading_warp = kNobody;  // kSeveral: of more than one
  };
  struct Named {
    const void* key;
    const char* name;
    Array array;
  };

  bool Check(const Array& array, ptrdiff_t offset, size_t bytes, size_t alignment, const char* verb);
  bool Ordered(int32_t other_warp, uint64_t time, uint32_t warp_time) const;
  void ReportRace(size_t place, const char* verb, int32_t other, const char* other_verb);
  std::string NameOf(size_t place) const;

  std::vector<uint8_t> bytes_;
  uint8_t* base_ = nullptr;  // 128-byte aligned, in bytes_
  std::vector<Note> notes_;
  std::vector<Named> named_;
  const std::string* kernel_ = nullptr;
  size_t static_end_ = 0;
  size_t dynamic_bytes_ = 0;
  size_t most_bytes_ = 0;
  int races_ = 0;  // reported in this block
  // Times grow from block to block, so that old notes need no clearing.
  uint64_t block_time_ = 1;
  std::vector<uint32_t> warp_times_;
};

}  // namespace tandem::emulation

#endif  // TANDEM_TESTS_EMULATION_SHARED_MEMORY_H_
