#include "worker/cuda/device_road.h"

#include <cuda_runtime.h>

#include <chrono>
#include <utility>

#include "absl/types/span.h"
#include "worker/cuda/check.h"
#include "worker/cuda/device_communicator.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/join_devices.h"
#include "worker/cuda/stream.h"

namespace tandem::worker::cuda {
namespace {

using Clock = std::chrono::steady_clock;

class DeviceRoad final : public ProbeRoad {
 public:
  DeviceRoad(Communicator* control, DeviceRoadOptions options, Stream stream, DeviceMemory message)
      : control_(*control), options_(std::move(options)), stream_(std::move(stream)), message_(std::move(message)) {}

  absl::Status Join() {
    auto joined = JoinDevices(&control_, message_.bytes(), options_.on_lost, options_.init_limit);
    if (!joined.ok()) return joined.status();
    communicator_ = *std::move(joined);
    return absl::OkStatus();
  }

  // All zeros, so that a sum of sums stays one.
  absl::Status Clear() {
    TANDEM_CUDA_RETURN_IF_ERROR(
        cudaMemsetAsync(message_.data(), 0, static_cast<size_t>(message_.bytes()), stream_.get()));
    return Await("clearing a message");
  }

  absl::StatusOr<Passage> Send(size_t floats, bool enough) override {
    // Both begin together: else the one that is early counts its waiting.
    if (absl::Status status = control_.Barrier(); !status.ok()) return status;
    const Clock::time_point begin = Clock::now();
    absl::Status sent = communicator_->AllReduceSum(message_.data(), static_cast<int64_t>(floats),
                                                    model::DType::kFloat32, stream_.get());
    if (sent.ok()) sent = Await("a message of the link probe");
    if (!sent.ok()) {
      communicator_->Abort(sent.message());
      return sent;
    }
    const Clock::duration took = Clock::now() - begin;
    float says_enough = enough ? 1.0f : 0.0f;
    if (absl::Status status = control_.AllReduceSum(absl::MakeSpan(&says_enough, 1)); !status.ok()) return status;
    return Passage{took, says_enough != 0};
  }

 private:
  absl::Status Await(absl::string_view what) {
    return AwaitDevice(what, {.limit = absl::ToChronoNanoseconds(options_.send_limit),
                              .health = [this] { return communicator_ ? communicator_->Health() : control_.Health(); },
                              .passed = [this]() -> absl::StatusOr<bool> {
                                const cudaError_t state = cudaStreamQuery(stream_.get());
                                if (state == cudaErrorNotReady) return false;
                                if (state != cudaSuccess) return ToStatus(state, "the stream of the link probe");
                                return true;
                              }});
  }

  Communicator& control_;
  const DeviceRoadOptions options_;
  const Stream stream_;
  DeviceMemory message_;
  std::unique_ptr<DeviceCommunicator> communicator_;  // goes first: until then the message may be written to
};

}  // namespace

absl::StatusOr<std::unique_ptr<ProbeRoad>> OpenDeviceRoad(Communicator* control, DeviceRoadOptions options) {
  absl::StatusOr<Stream> stream = Stream::Create();
  if (!stream.ok()) return stream.status();
  const auto bytes = static_cast<int64_t>(options.floats * sizeof(float));
  absl::StatusOr<DeviceMemory> message = DeviceMemory::Allocate(bytes, "the message of a link probe");
  if (!message.ok()) return message.status();
  auto road = std::make_unique<DeviceRoad>(control, std::move(options), *std::move(stream), *std::move(message));
  if (absl::Status status = road->Clear(); !status.ok()) return status;
  if (absl::Status status = road->Join(); !status.ok()) return status;
  return road;
}

}  // namespace tandem::worker::cuda
