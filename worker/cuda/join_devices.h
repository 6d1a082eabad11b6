// Which data plane a group of devices gets.
#ifndef TANDEM_WORKER_CUDA_JOIN_DEVICES_H_
#define TANDEM_WORKER_CUDA_JOIN_DEVICES_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "worker/comm/communicator.h"
#include "worker/cuda/device_communicator.h"

namespace tandem::worker::cuda {

// One rank needs none. More have NCCL, or where TANDEM_DEVICE_COMMUNICATOR says "host", copies through the host's
// memory (staged_communicator.h): for a machine on which NCCL does not come up, and slower there than anything else.
// Every rank calls it, with its device current. Codes as NcclCommunicator::Join; INVALID_ARGUMENT for another word.
// `init_limit`: as NcclOptions. `windows`: tries a window for small sums, unless TANDEM_NCCL_WINDOWS says "off";
// "on" tries one also with an NCCL whose windows can not be aborted.
absl::StatusOr<std::unique_ptr<DeviceCommunicator>> JoinDevices(Communicator* control, int64_t largest_bytes,
                                                                std::function<void(absl::string_view)> on_lost,
                                                                absl::Duration init_limit = absl::Seconds(60),
                                                                bool windows = false);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_JOIN_DEVICES_H_
