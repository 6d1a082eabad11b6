#include "worker/cuda/check.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace tandem::worker::cuda {
namespace {

constexpr char kStickyMark[] = "tandem/cuda-context-lost";

absl::StatusCode CodeOf(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return absl::StatusCode::kResourceExhausted;
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInitializationError:
    case cudaErrorDevicesUnavailable:
      return absl::StatusCode::kUnavailable;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace

// Those of which driver_types.h says that the process must be ended and launched again, and what the memory or a link
// of the device has spoiled.
bool IsSticky(cudaError_t error) {
  switch (static_cast<int>(error)) {
    // By number, since older toolkits do not name them: cudaErrorContained, cudaErrorTensorMemoryLeak,
    // cudaErrorMpsClientTerminated, cudaErrorExternalDevice.
    case 226:
    case 721:
    case 810:
    case 911:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorUnknown:
      return true;
    default:
      return false;
  }
}

bool IsSticky(const absl::Status& status) { return status.GetPayload(kStickyMark).has_value(); }

absl::Status ToStatus(cudaError_t error, absl::string_view call) {
  if (error == cudaSuccess) return absl::OkStatus();
  const bool sticky = IsSticky(error);
  absl::Status status(CodeOf(error), absl::StrCat(call, ": ", cudaGetErrorString(error), " (", cudaGetErrorName(error),
                                                  sticky ? "); the context is lost, the process has to end" : ")"));
  if (sticky) status.SetPayload(kStickyMark, absl::Cord("1"));
  return status;
}

}  // namespace tandem::worker::cuda
