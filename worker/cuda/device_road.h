// The road between two GPUs, for the link probe: a message in device memory, summed by the device communicator that a
// group of the two would get (NCCL, or what TANDEM_DEVICE_COMMUNICATOR says).
//
// It has a stream and a buffer of its own, so it touches nothing of a group that is loaded beside it. A peer that
// hangs, or dies without a word, ends the wait for a message by its limit; then the communicator is aborted.
#ifndef TANDEM_WORKER_CUDA_DEVICE_ROAD_H_
#define TANDEM_WORKER_CUDA_DEVICE_ROAD_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "worker/comm/communicator.h"
#include "worker/probe_road.h"

namespace tandem::worker::cuda {

struct DeviceRoadOptions {
  size_t floats = 0;                               // of the longest message
  absl::Duration init_limit = absl::Seconds(20);   // of the communicator coming up
  absl::Duration send_limit = absl::Seconds(2);    // of one message
  std::function<void(absl::string_view)> on_lost;  // as NcclOptions. Required.
};

// On the calling thread's current device; both ranks of `control` call it. Codes as JoinDevices, or RESOURCE_EXHAUSTED
// where the device has no room for the message.
absl::StatusOr<std::unique_ptr<ProbeRoad>> OpenDeviceRoad(Communicator* control, DeviceRoadOptions options);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_DEVICE_ROAD_H_
