// Whether the devices of a group can really write into each other's memory.
//
// The driver says that they may (cudaDeviceCanAccessPeer); behind some IOMMU and ACS settings what was written arrives
// elsewhere, or never, and NCCL then hangs or sums wrong. So each rank opens a buffer of each peer the way NCCL does,
// writes a pattern of its own into it, and the owner looks whether it came. All ranks agree on the outcome, and the
// first reason is told in words.
#ifndef TANDEM_WORKER_CUDA_PEER_CHECK_H_
#define TANDEM_WORKER_CUDA_PEER_CHECK_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/communicator.h"

namespace tandem::worker::cuda {

enum class PeerAccess : uint8_t {
  kWorks,    // all ranks reach all others
  kRefused,  // the driver lets some rank not reach some other, as NCCL will find, too
  kBroken,   // it lets them, and what was written did not arrive: NCCL must be told
};

// Equal on all ranks.
struct PeerFinding {
  PeerAccess access = PeerAccess::kWorks;
  std::string reason;  // "rank 1 can not open the memory of rank 0: .."; empty where it works
};

// An error is the communicator's, or the device's: one that stays, or a copy that does not end; then `on_lost` has been
// told, once the peers know. Every rank calls it, with its device current.
absl::StatusOr<PeerFinding> CheckPeerWrites(Communicator& control, absl::Time deadline,
                                            const std::function<void(absl::string_view reason)>& on_lost);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_PEER_CHECK_H_
