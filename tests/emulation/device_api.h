// What a kernel may call, on the host: the language's additions, barriers, shuffles, votes, atomics and intrinsics.
//
// Only what the kernels use is here. `__shared__` is missing on purpose: kernels declare shared memory with the macros
// of worker/cuda/ops/shared.h, so that every access of it is seen.
#ifndef TANDEM_TESTS_EMULATION_DEVICE_API_H_
#define TANDEM_TESTS_EMULATION_DEVICE_API_H_

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <source_location>

#include "tests/emulation/block.h"
#include "tests/emulation/vector_types.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __constant__ static const

#define threadIdx (::tandem::emulation::current_thread->index)
#define blockIdx (::tandem::emulation::current_block->index())
#define blockDim (::tandem::emulation::current_block->launch().block)
#define gridDim (::tandem::emulation::current_block->launch().grid)

namespace tandem::emulation {

// One lane's part of a shuffle or a vote.
struct Exchange {
  uint64_t value = 0;
  int32_t source = 0;  // the lane whose value comes back
  uint64_t result = 0;
};

void CompleteShuffle(void* const* contributions, uint32_t mask);
void CompleteBallot(void* const* contributions, uint32_t mask);
void CompleteWarpBarrier(void* const* contributions, uint32_t mask);

template <class T>
T Shuffle(const char* what, uint32_t mask, T value, int source, std::source_location where) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  Exchange mine;
  std::memcpy(&mine.value, &value, sizeof(T));
  mine.source = source;
  current_block->Meet(what, mask, &mine, &CompleteShuffle, where);
  std::memcpy(&value, &mine.result, sizeof(T));
  return value;
}

inline int Lane() { return current_thread->lane; }

}  // namespace tandem::emulation

inline constexpr int warpSize = 32;

inline void __syncthreads(std::source_location where = std::source_location::current()) {
  tandem::emulation::current_block->Synchronize(where);
}

inline void __syncwarp(unsigned int mask = 0xffffffffu, std::source_location where = std::source_location::current()) {
  tandem::emulation::current_block->Meet("__syncwarp", mask, nullptr, &tandem::emulation::CompleteWarpBarrier, where);
}

template <class T>
T __shfl_sync(unsigned int mask, T value, int source, int width = 32,
              std::source_location where = std::source_location::current()) {
  const int lane = tandem::emulation::Lane();
  return tandem::emulation::Shuffle("__shfl_sync", mask, value, (lane & ~(width - 1)) | (source & (width - 1)), where);
}

template <class T>
T __shfl_xor_sync(unsigned int mask, T value, int lanes, int width = 32,
                  std::source_location where = std::source_location::current()) {
  const int lane = tandem::emulation::Lane();
  const int source = lane ^ lanes;
  return tandem::emulation::Shuffle("__shfl_xor_sync", mask, value, source < (lane | (width - 1)) + 1 ? source : lane,
                                    where);
}

template <class T>
T __shfl_down_sync(unsigned int mask, T value, unsigned int lanes, int width = 32,
                   std::source_location where = std::source_location::current()) {
  const int lane = tandem::emulation::Lane();
  const int source = lane + static_cast<int>(lanes);
  return tandem::emulation::Shuffle("__shfl_down_sync", mask, value, source <= (lane | (width - 1)) ? source : lane,
                                    where);
}

template <class T>
T __shfl_up_sync(unsigned int mask, T value, unsigned int lanes, int width = 32,
                 std::source_location where = std::source_location::current()) {
  const int lane = tandem::emulation::Lane();
  const int source = lane - static_cast<int>(lanes);
  return tandem::emulation::Shuffle("__shfl_up_sync", mask, value, source >= (lane & ~(width - 1)) ? source : lane,
                                    where);
}

inline unsigned int __ballot_sync(unsigned int mask, int predicate,
                                  std::source_location where = std::source_location::current()) {
  tandem::emulation::Exchange mine;
  mine.value = predicate != 0;
  tandem::emulation::current_block->Meet("__ballot_sync", mask, &mine, &tandem::emulation::CompleteBallot, where);
  return static_cast<unsigned int>(mine.result);
}
inline int __any_sync(unsigned int mask, int predicate, std::source_location where = std::source_location::current()) {
  return __ballot_sync(mask, predicate, where) != 0;
}
inline int __all_sync(unsigned int mask, int predicate, std::source_location where = std::source_location::current()) {
  return __ballot_sync(mask, predicate, where) == mask;
}

// Blocks run one after the other and threads in turns, so a plain update is atomic.
template <class T>
T atomicAdd(T* address, T value) {
  const T old = *address;
  *address = old + value;
  return old;
}

template <class T>
T __ldg(const T* address) {
  return *address;
}

inline unsigned int __float_as_uint(float x) { return std::bit_cast<unsigned int>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(unsigned int x) { return std::bit_cast<float>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }

// Products and sums that are not fused, here as everywhere on the host.
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __dadd_rn(double x, double y) { return x + y; }
inline float __fmul_rn(float x, float y) { return x * y; }

inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

inline int __popc(unsigned int x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned int>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned int>(x)) + 1; }

// Byte i of the result is byte (selector >> 4i & 7) of the eight bytes y:x.
inline unsigned int __byte_perm(unsigned int x, unsigned int y, unsigned int selector) {
  const uint64_t bytes = (uint64_t{y} << 32) | x;
  unsigned int result = 0;
  for (unsigned int i = 0; i < 4; ++i) {
    const unsigned int from = selector >> (4 * i) & 7;
    result |= static_cast<unsigned int>(bytes >> (8 * from) & 0xff) << (8 * i);
  }
  return result;
}

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline long min(long a, long b) { return a < b ? a : b; }
inline long max(long a, long b) { return a > b ? a : b; }

#endif  // TANDEM_TESTS_EMULATION_DEVICE_API_H_
