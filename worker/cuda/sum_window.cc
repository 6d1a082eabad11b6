#include "worker/cuda/sum_window.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#define TANDEM_NCCL_WINDOWS (NCCL_VERSION_CODE >= 22700)

#if TANDEM_NCCL_WINDOWS
// An older library than that of the build has not all of these, and shall be usable all the same.
#pragma weak ncclCommWindowRegister
#pragma weak ncclCommWindowDeregister
#pragma weak ncclMemAlloc
#pragma weak ncclMemFree
#endif

namespace tandem::worker::cuda {
namespace {

// Two measurements of the same differ by some percent.
constexpr float kClearlyFaster = 0.95f;

// The device code in NCCL's headers looks at the abort flag where it waits for peers (lsa_barrier__funcs.h): not in
// 2.28.9, in 2.30.7.
constexpr int kFirstThatEnds = 23000;

}  // namespace

int64_t ChooseWindowLimit(absl::Span<const SumTimes> times) {
  int64_t limit = 0;
  for (const SumTimes& size : times) {
    if (!(size.window_us < kClearlyFaster * size.plain_us)) break;
    limit = size.bytes;
  }
  return limit;
}

std::string DescribeSumTimes(absl::Span<const SumTimes> times) {
  return absl::StrJoin(times, "; ", [](std::string* out, const SumTimes& size) {
    absl::StrAppend(
        out, absl::StrFormat("%d KiB %.1f us, in a window %.1f us", size.bytes >> 10, size.plain_us, size.window_us));
  });
}

#if TANDEM_NCCL_WINDOWS

bool NcclHasWindows(bool though_stuck) {
  int version = 0;
  if (ncclGetVersion(&version) != ncclSuccess || (version < kFirstThatEnds && !though_stuck)) return false;
  return &ncclCommWindowRegister != nullptr && &ncclCommWindowDeregister != nullptr && &ncclMemAlloc != nullptr &&
         &ncclMemFree != nullptr;
}

WindowMemory::~WindowMemory() {
  if (data_ != nullptr) ncclMemFree(data_);
}

bool WindowMemory::Allocate(int64_t bytes) {
  if (ncclMemAlloc(&data_, static_cast<size_t>(bytes)) != ncclSuccess) {
    data_ = nullptr;
    return false;
  }
  bytes_ = bytes;
  return true;
}

ncclResult_t RegisterWindow(ncclComm_t comm, const WindowMemory& memory, void** window) {
  return ncclCommWindowRegister(comm, memory.data(), static_cast<size_t>(memory.bytes()),
                                reinterpret_cast<ncclWindow_t*>(window), NCCL_WIN_COLL_SYMMETRIC);
}

ncclResult_t DeregisterWindow(ncclComm_t comm, void* window) {
  return ncclCommWindowDeregister(comm, static_cast<ncclWindow_t>(window));
}

#else  // of a build against NCCL before 2.27

bool NcclHasWindows(bool) { return false; }
WindowMemory::~WindowMemory() = default;
bool WindowMemory::Allocate(int64_t) { return false; }
ncclResult_t RegisterWindow(ncclComm_t, const WindowMemory&, void**) { return ncclInvalidUsage; }
ncclResult_t DeregisterWindow(ncclComm_t, void*) { return ncclInvalidUsage; }

#endif

}  // namespace tandem::worker::cuda
