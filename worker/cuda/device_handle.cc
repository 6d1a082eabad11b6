#include "worker/cuda/device_handle.h"

#include <cuda_runtime.h>

#include <utility>

#include "worker/cuda/check.h"
#include "worker/cuda/cuda_executor.h"
#include "worker/cuda/device_list.h"
#include "worker/cuda/device_road.h"
#include "worker/cuda/encoder_executor.h"
#include "worker/cuda/join_devices.h"

namespace tandem::worker {
namespace {

class Handle final : public CudaDeviceHandle {
 public:
  Handle(CudaDeviceFacts facts, std::function<void(absl::string_view)> on_lost)
      : facts_(std::move(facts)), on_lost_(std::move(on_lost)) {}

  const CudaDeviceFacts& Facts() const override { return facts_; }

  absl::StatusOr<CudaMemory> Memory() const override {
    // The device is a property of the thread that asks.
    if (cudaError_t error = cudaSetDevice(facts_.ordinal); error != cudaSuccess)
      return cuda::ToStatus(error, "the device");
    size_t free = 0, total = 0;
    if (cudaError_t error = cudaMemGetInfo(&free, &total); error != cudaSuccess)
      return cuda::ToStatus(error, "its memory");
    return CudaMemory{.free = static_cast<int64_t>(free), .total = static_cast<int64_t>(total)};
  }

  absl::StatusOr<CudaPeerWay> WayTo(const CudaDeviceFacts& peer) const override {
    int access = 0, atomics = 0, rank = 0;
    for (const auto& [attribute, value] :
         {std::pair(cudaDevP2PAttrAccessSupported, &access), std::pair(cudaDevP2PAttrNativeAtomicSupported, &atomics),
          std::pair(cudaDevP2PAttrPerformanceRank, &rank)}) {
      const cudaError_t error = cudaDeviceGetP2PAttribute(value, attribute, facts_.ordinal, peer.ordinal);
      if (error != cudaSuccess) return cuda::ToStatus(error, "the way to a peer");
    }
    return CudaPeerWay{.access = access != 0, .native_atomics = atomics != 0, .performance_rank = rank};
  }

  absl::StatusOr<std::unique_ptr<Executor>> Load(const CudaModelOptions& options, Communicator* communicator) override {
    TANDEM_CUDA_RETURN_IF_ERROR(cudaSetDevice(facts_.ordinal));
    const cuda::CudaExecutorOptions executor{.folder = options.folder,
                                             .dtype = options.dtype,
                                             .max_batch_tokens = options.max_batch_tokens,
                                             .max_sequences = options.max_sequences,
                                             .max_model_len = options.max_model_len,
                                             .memory_limit_bytes = options.memory_limit_bytes,
                                             .on_lost = on_lost_};
    if (options.task != "generate") return cuda::LoadCudaEncoder(executor, options.task, communicator);
    return cuda::LoadCudaExecutor(executor, communicator, [this](Communicator* control, int64_t largest_bytes) {
      return cuda::JoinDevices(control, largest_bytes, on_lost_, absl::Seconds(60), /*windows=*/true);
    });
  }

  absl::StatusOr<std::unique_ptr<ProbeRoad>> OpenRoad(Communicator* communicator, size_t floats) override {
    TANDEM_CUDA_RETURN_IF_ERROR(cudaSetDevice(facts_.ordinal));
    return cuda::OpenDeviceRoad(communicator, {.floats = floats, .on_lost = on_lost_});
  }

 private:
  const CudaDeviceFacts facts_;
  const std::function<void(absl::string_view)> on_lost_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CudaDeviceHandle>> OpenCudaDevice(
    int ordinal, std::function<void(absl::string_view reason)> on_lost) {
  absl::StatusOr<CudaDeviceFacts> facts = ReadCudaDevice(ordinal);
  if (!facts.ok()) return facts.status();
  return std::make_unique<Handle>(*std::move(facts), std::move(on_lost));
}

}  // namespace tandem::worker
