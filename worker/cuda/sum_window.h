// Memory that NCCL knows on every rank: a symmetric window (NCCL 2.30 and later). Sums of a few tokens are bound by how
// long the ranks take to meet, and in a window they meet by writing into each other's memory; how much that saves is
// for a measurement to say, which is made when a group comes up, on the devices and links that it has. Where it saves
// nothing, or NCCL has no windows, the group sums as it would without.
//
// All ranks take the same steps in the same order and come to the same choice. Belongs to the engine thread.
#ifndef TANDEM_WORKER_CUDA_SUM_WINDOW_H_
#define TANDEM_WORKER_CUDA_SUM_WINDOW_H_

#include <nccl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"

namespace tandem::worker::cuda {

// One size of sums, in plain memory and in a window: microseconds of one, of the slowest rank.
struct SumTimes {
  int64_t bytes = 0;
  float plain_us = 0;
  float window_us = 0;
};

// The most bytes whose sums shall lie in a window: the largest size such that it and all smaller ones were faster
// there, by more than what two measurements differ anyway. 0: none.
int64_t ChooseWindowLimit(absl::Span<const SumTimes> times);

// "8 KiB 12.1 us, in a window 6.3 us; .."
std::string DescribeSumTimes(absl::Span<const SumTimes> times);

// Whether the loaded NCCL has windows, and a sum in one ends when the communicator is aborted: the kernels of 2.28.9,
// and as far as is known of 2.27, wait for a peer that is gone without a look at that, so that only the end of the
// process would free the device. `though_stuck`: takes them all the same.
bool NcclHasWindows(bool though_stuck);

// Memory from NCCL, for a window. Freed with this, which waits for nothing: the communicator has to be gone, or to have
// forgotten it.
class WindowMemory {
 public:
  WindowMemory() = default;  // Holds nothing.
  ~WindowMemory();
  WindowMemory(const WindowMemory&) = delete;
  WindowMemory& operator=(const WindowMemory&) = delete;

  // False: NCCL gives none.
  bool Allocate(int64_t bytes);
  // What is held stays so: the device still works on it, and only the end of the process frees it.
  void Leak() { data_ = nullptr; }

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

// NCCL's own calls, where it has them. `window` becomes null where NCCL takes none between these devices. On every
// rank.
ncclResult_t RegisterWindow(ncclComm_t comm, const WindowMemory& memory, void** window);
ncclResult_t DeregisterWindow(ncclComm_t comm, void* window);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_SUM_WINDOW_H_
