// A ProbeRoad is the way that a link probe measures, with the message that goes over it: between two ranks that met.
//
// The message lies where the tensors of a group of such devices lie, and goes as they go: through shared memory between
// CPU devices (HostRoad), over the device communicator between GPUs (CudaDeviceHandle::OpenRoad). What both ranks must
// agree on besides, whether they have measured enough, goes with the message or beside it, and is not in its time.
//
// Belongs to the thread of the probe. The Communicator that it stands on outlives it; aborting that ends what is under
// way here with an error, within the implementation's own limit.
#ifndef TANDEM_WORKER_PROBE_ROAD_H_
#define TANDEM_WORKER_PROBE_ROAD_H_

#include <chrono>
#include <cstddef>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/comm/communicator.h"

namespace tandem::worker {

class ProbeRoad {
 public:
  // One message that came through.
  struct Passage {
    std::chrono::steady_clock::duration took{};
    bool enough = false;  // one of the ranks said so, with this message: both stop after it
  };

  virtual ~ProbeRoad() = default;

  // Sums the first `floats` floats of the message over both ranks, and returns when the sum is there. Both ranks call
  // it with the same number. `enough`: this rank wants no more.
  virtual absl::StatusOr<Passage> Send(size_t floats, bool enough) = 0;
};

// Through `communicator`, whose message is the host's memory.
class HostRoad final : public ProbeRoad {
 public:
  // REQUIRES: no Send() is of more than `floats`, of which there is at least one.
  HostRoad(Communicator* communicator, size_t floats) : communicator_(*communicator), message_(floats) {}

  // A rank that has enough lays a one into the first element, and both see the sum.
  absl::StatusOr<Passage> Send(size_t floats, bool enough) override {
    const absl::Span<float> message = absl::MakeSpan(message_).first(floats);
    const auto begin = std::chrono::steady_clock::now();
    message[0] = enough ? 1.0f : 0.0f;
    if (absl::Status status = communicator_.AllReduceSum(message); !status.ok()) return status;
    return Passage{std::chrono::steady_clock::now() - begin, message[0] != 0};
  }

 private:
  Communicator& communicator_;
  std::vector<float> message_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_PROBE_ROAD_H_
