// What the ranks of a group settle before they start NCCL: that it is the same one everywhere, and whether devices
// write to each other directly or go through the host's memory.
#ifndef TANDEM_WORKER_CUDA_NCCL_PATH_H_
#define TANDEM_WORKER_CUDA_NCCL_PATH_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "worker/comm/communicator.h"

namespace tandem::worker::cuda {

// "2.28.3" out of 22803.
std::string NcclVersionName(int version);

// Every rank's value of one fixed-size type, in rank order. All ranks call it; they are of the same build.
template <typename T>
absl::StatusOr<std::vector<T>> ExchangeFacts(Communicator& control, const T& mine) {
  std::vector<T> all(control.size());
  const absl::Status told =
      control.AllGather(absl::MakeSpan(reinterpret_cast<const uint8_t*>(&mine), sizeof(T)),
                        absl::MakeSpan(reinterpret_cast<uint8_t*>(all.data()), all.size() * sizeof(T)));
  if (!told.ok()) return told;
  return all;
}

// Makes all ranks choose the same way between their devices' links and the host's memory. True: links between all of
// them, and no operator said otherwise. FAILED_PRECONDITION where the ranks differ in their NCCL or in what an operator
// set, where /dev/shm is too small for the way through the host, or where this process can not go back to it (see
// below); in words what to do.
//
// Devices that the driver lets not reach each other are NCCL's own business: it finds that, pair by pair. Where they
// are let and what they write does not arrive, NCCL has to be told, by NCCL_P2P_DISABLE, which it reads once in a
// process. So a process that was made to do without links does so for good, and tells the ranks of later groups, which
// then do without, too: two ends of one connection that choose differently hang. And one that has started NCCL with
// links can not be made to do without. `on_lost`: as CheckPeerWrites.
absl::StatusOr<bool> ChooseNcclPath(Communicator& control, absl::Time deadline,
                                    const std::function<void(absl::string_view reason)>& on_lost);

// As in a process that has started no NCCL.
void ForgetLinksForTest();

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_NCCL_PATH_H_
