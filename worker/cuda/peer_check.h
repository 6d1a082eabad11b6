// Whether the devices of a group can really write into each other's memory.
//
// The driver says that they may (cudaDeviceCanAccessPeer); behind some IOMMU and ACS settings what was written arrives
// elsewhere, or never, and NCCL then hangs or sums wrong. So each rank opens a buffer of each peer the way NCCL does,
// writes a pattern of its own into it, and the owner looks whether it came. Where anything is wrong all ranks agree to
// do without (NCCL_P2P_DISABLE), and the first reason is told in words.
#ifndef TANDEM_WORKER_CUDA_PEER_CHECK_H_
#define TANDEM_WORKER_CUDA_PEER_CHECK_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/comm/communicator.h"

namespace tandem::worker::cuda {

// Empty: all ranks reach all others. Else the first reason why not, equal on all ranks: "rank 1 can not open the memory
// of rank 0: .." An error is the communicator's. Every rank calls it, with its device current.
absl::StatusOr<std::string> CheckPeerWrites(Communicator& control, absl::Time deadline);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_PEER_CHECK_H_
