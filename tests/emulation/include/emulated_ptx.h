// The functions of worker/cuda/ops/ptx.h on the host. See there for what they do.
#ifndef TANDEM_TESTS_EMULATION_INCLUDE_EMULATED_PTX_H_
#define TANDEM_TESTS_EMULATION_INCLUDE_EMULATED_PTX_H_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <emulated_shared.h>

#include <cstdint>
#include <source_location>

#include "tests/emulation/device_api.h"

namespace tandem::emulation {

struct Multiplication {
  float* sum;
  const uint32_t* a;
  const uint32_t* b;
  float (*widen)(uint16_t);
};
void CompleteMultiplication(void* const* contributions, uint32_t mask);

struct MatrixLoad {
  uint16_t row[8];  // what this lane's address holds
  bool transposed;
  uint32_t* result;  // four registers
};
void CompleteMatrixLoad(void* const* contributions, uint32_t mask);

void CheckAligned(const void* address, size_t bytes);
void BeginCopy(const SharedMemory::Array& array, ptrdiff_t offset, const void* source, bool valid);
void CommitCopies();
void AwaitCopies(size_t left);

inline float WidenBFloat16(uint16_t bits) { return tandem::model::FloatFromBFloat16(bits); }
inline float WidenHalf(uint16_t bits) { return tandem::model::FloatFromFloat16(bits); }

}  // namespace tandem::emulation

namespace tandem::worker::cuda {

__forceinline__ uint4 LoadOnce16(const void* address) {
  emulation::CheckAligned(address, 16);
  return *static_cast<const uint4*>(address);
}

inline void MultiplyAdd(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], __nv_bfloat16,
                        std::source_location where = std::source_location::current()) {
  emulation::Multiplication mine{sum, a, b, &emulation::WidenBFloat16};
  emulation::current_block->Meet("MultiplyAdd", 0xffffffffu, &mine, &emulation::CompleteMultiplication, where);
}

inline void MultiplyAdd(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], __half,
                        std::source_location where = std::source_location::current()) {
  emulation::Multiplication mine{sum, a, b, &emulation::WidenHalf};
  emulation::current_block->Meet("MultiplyAdd", 0xffffffffu, &mine, &emulation::CompleteMultiplication, where);
}

template <class T>
__forceinline__ void LoadMatrices(uint32_t (&result)[4], Shared<T> row, bool transposed, std::source_location where) {
  emulation::MatrixLoad mine{};
  mine.transposed = transposed;
  mine.result = result;
  const uint4 bytes = SharedCast<const uint4>(row)[0];
  std::memcpy(mine.row, &bytes, sizeof(mine.row));
  emulation::current_block->Meet("LoadMatrices", 0xffffffffu, &mine, &emulation::CompleteMatrixLoad, where);
}

template <class T>
__forceinline__ void LoadMatrices(uint32_t (&result)[4], Shared<T> row,
                                  std::source_location where = std::source_location::current()) {
  LoadMatrices(result, row, false, where);
}

template <class T>
__forceinline__ void LoadMatricesTransposed(uint32_t (&result)[4], Shared<T> row,
                                            std::source_location where = std::source_location::current()) {
  LoadMatrices(result, row, true, where);
}

template <class T>
__forceinline__ void CopyAsync16(Shared<T> to, const void* from, bool valid) {
  emulation::BeginCopy(to.array(), to.offset(), from, valid);
}

inline void CommitCopies() { emulation::CommitCopies(); }

template <int kLeft>
void AwaitCopies() {
  emulation::AwaitCopies(kLeft);
}

}  // namespace tandem::worker::cuda

#endif  // TANDEM_TESTS_EMULATION_INCLUDE_EMULATED_PTX_H_
