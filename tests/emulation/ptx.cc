#include <emulated_ptx.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/emulation/findings.h"

namespace tandem::emulation {

// D[16][8] += A[16][16] * B[16][8]. Lane l = 4 g + q holds of A the pairs (row g, columns 2q), (g + 8, 2q),
// (g, 2q + 8), (g + 8, 2q + 8); of B the pairs (rows 2q, column g), (2q + 8, g); of D (g, 2q) and (g + 8, 2q).
void CompleteMultiplication(void* const* contributions, uint32_t) {
  float a[16][16];
  float b[8][16];  // transposed
  for (int lane = 0; lane < 32; ++lane) {
    const Multiplication& part = *static_cast<const Multiplication*>(contributions[lane]);
    const int g = lane / 4;
    const int q = lane % 4;
    const auto put = [&](uint32_t pair, float* to) {
      to[0] = part.widen(static_cast<uint16_t>(pair));
      to[1] = part.widen(static_cast<uint16_t>(pair >> 16));
    };
    put(part.a[0], &a[g][2 * q]);
    put(part.a[1], &a[g + 8][2 * q]);
    put(part.a[2], &a[g][2 * q + 8]);
    put(part.a[3], &a[g + 8][2 * q + 8]);
    put(part.b[0], &b[g][2 * q]);
    put(part.b[1], &b[g][2 * q + 8]);
  }
  for (int lane = 0; lane < 32; ++lane) {
    float* const sum = static_cast<const Multiplication*>(contributions[lane])->sum;
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + (i >= 2 ? 8 : 0);
      const int column = 2 * (lane % 4) + (i & 1);
      float total = 0;
      for (int k = 0; k < 16; ++k) total += a[row][k] * b[column][k];
      sum[i] += total;
    }
  }
}

// Register m of lane l is a pair of matrix m, whose rows the lanes 8 m to 8 m + 7 gave.
void CompleteMatrixLoad(void* const* contributions, uint32_t) {
  for (int lane = 0; lane < 32; ++lane) {
    const MatrixLoad& mine = *static_cast<const MatrixLoad*>(contributions[lane]);
    for (int m = 0; m < 4; ++m) {
      const auto at = [&](int row, int column) -> uint32_t {
        return static_cast<const MatrixLoad*>(contributions[8 * m + row])->row[column];
      };
      const int g = lane / 4;
      const int q = lane % 4;
      const uint32_t low = mine.transposed ? at(2 * q, g) : at(g, 2 * q);
      const uint32_t high = mine.transposed ? at(2 * q + 1, g) : at(g, 2 * q + 1);
      mine.result[m] = low | high << 16;
    }
  }
}

void CheckAligned(const void* address, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(address) % bytes == 0) return;
  Report(absl::StrCat(current_block->launch().kernel, ": thread ", current_thread->number, " reads ", bytes,
                      " bytes of global memory at an address that is no multiple of them"));
}

void BeginCopy(const SharedMemory::Array& array, ptrdiff_t offset, const void* source, bool valid) {
  if (valid) CheckAligned(source, 16);
  if (LaunchCounter* const counter = current_block->counter(); counter != nullptr) {
    const auto place = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
    counter->NoteShared(current_thread->accesses, AccessKind::kSharedWrite, static_cast<size_t>(offset), 16, place);
    if (valid) counter->NoteGlobal(current_thread->accesses, AccessKind::kGlobalRead, source, 16, place);
  }
  // From here to the end of the copy the place holds nothing; nobody may look, and nobody may still be looking.
  const uint32_t nothing[4] = {~0u, ~0u, ~0u, ~0u};
  if (!current_block->shared().Write(array, offset, nothing, 16, 16)) return;
  current_thread->begun.push_back({static_cast<size_t>(offset), source, valid});
}

void CommitCopies() { current_thread->groups.push_back(std::exchange(current_thread->begun, {})); }

void AwaitCopies(size_t left) {
  SharedMemory& shared = current_block->shared();
  auto& groups = current_thread->groups;
  const SharedMemory::Array everything = {0, SharedMemory::kStaticBytes + SharedMemory::kMostBytes};
  while (groups.size() > left) {
    for (const PendingCopy& copy : groups.front()) {
      uint4 bytes = {};
      if (copy.valid) bytes = *static_cast<const uint4*>(copy.source);
      shared.Write(everything, static_cast<ptrdiff_t>(copy.offset), &bytes, 16, 16);
    }
    groups.erase(groups.begin());
  }
}

}  // namespace tandem::emulation
