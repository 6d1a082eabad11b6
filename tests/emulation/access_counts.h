// What bounds a kernel on a device, as far as its addresses tell: counted per launch where a test asks for it.
//
//   CountAccesses(true);  ... launches ...  for (const KernelCounts& one : TakeCounts()) ...
//
//  - Shared memory: passes of each warp-wide access against the least. 32 banks of 4 bytes; one pass serves any words
//  in
//    different banks, and one word to all who ask for it. Accesses of up to 4 bytes are one request of the warp, of 8
//    bytes two half-warps', of 16 bytes four quarter-warps' (the CUDA programming guide's rules since 5.0); ldmatrix
//    counts as a load of 16 bytes, cp.async as a store of 16.
//  - Global memory: sectors of 32 bytes that each warp-wide request touches, against the least that hold the bytes it
//    asks for; and the different sectors of the whole launch, which have to come from memory at least once. Memory of
//    cudaMalloc counts, and starts at a sector there; arguments and the stack do not.
//  - Barriers that the blocks passed.
//
// Threads are coroutines, so there is no warp-wide access to look at: each lane notes its own, with the place in the
// code. When lanes meet (a shuffle, a vote, an mma, __syncwarp, __syncthreads) or end, the n-th accesses of all of them
// at one place since they last met are taken for one request. That is exact where lanes go through loops together;
// where lanes skip turns that others take, their later turns are put together with others' earlier ones.
//
// Shared memory and cp.async are seen in every build. Plain loads and stores of global memory are seen where the
// kernels are compiled with the hooks of global_hooks.cc (tandem_cuda_ops_counted), there all of them: the compiler
// calls out before each. It may have joined or split accesses that nvcc leaves alone, or the other way round.
#ifndef TANDEM_TESTS_EMULATION_ACCESS_COUNTS_H_
#define TANDEM_TESTS_EMULATION_ACCESS_COUNTS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace tandem::emulation {

enum class AccessKind : uint8_t { kSharedRead, kSharedWrite, kGlobalRead, kGlobalWrite };
inline constexpr int kAccessKinds = 4;

// Of one kind. Shared memory: passes; global memory: sectors of 32 bytes.
struct AccessCounts {
  int64_t requests = 0;  // warp-wide
  int64_t bytes = 0;     // asked for, the same byte once in a request
  int64_t taken = 0;
  int64_t least = 0;  // for the same requests

  int64_t excess() const { return taken - least; }
  // 1 is best, as for a kernel that asks for nothing.
  double efficiency() const { return taken == 0 ? 1 : static_cast<double>(least) / static_cast<double>(taken); }
  void Add(const AccessCounts& other);
};

struct KernelCounts {
  std::string kernel;  // as it was launched
  int64_t launches = 0;
  int64_t blocks = 0;
  int64_t barriers = 0;  // over all blocks
  AccessCounts by_kind[kAccessKinds];
  int64_t distinct_sectors[2] = {};  // read and written, summed over launches
  // The same by place in the code; see NameOfPlace.
  std::map<std::pair<uintptr_t, AccessKind>, AccessCounts> places;

  const AccessCounts& of(AccessKind kind) const { return by_kind[static_cast<int>(kind)]; }
  double barriers_per_block() const {
    return blocks == 0 ? 0 : static_cast<double>(barriers) / static_cast<double>(blocks);
  }
  void Add(const KernelCounts& other);
};

// From the next launch on, on all streams. Off at the start.
void CountAccesses(bool on);
bool CountsAccesses();

// What a launch has counted, when it is done.
void AddToCounts(const KernelCounts& counts);

// Since the last call, by kernel in the order of their first launches. REQUIRES: the streams are at rest.
std::vector<KernelCounts> TakeCounts();

// "gemv.cu:104" where addr2line is installed and the code was compiled with line numbers, else an address.
std::string NameOfPlace(uintptr_t place);

// Where a kernel lost most: one line for each place with an excess, the largest first.
std::string LossesOf(const KernelCounts& counts);

}  // namespace tandem::emulation

#endif  // TANDEM_TESTS_EMULATION_ACCESS_COUNTS_H_
