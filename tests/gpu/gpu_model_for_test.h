// Models on devices, for tests that run on emulated ones (tests/emulation) and, built once more, on real ones.
#ifndef TANDEM_TESTS_GPU_GPU_MODEL_FOR_TEST_H_
#define TANDEM_TESTS_GPU_GPU_MODEL_FOR_TEST_H_

#include <cuda_runtime.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/cuda/cuda_executor.h"
#include "worker/cuda/solo_device_communicator.h"
#include "worker/cuda/staged_communicator.h"
#include "worker/exec/model_golden_for_test.h"
#if defined(TANDEM_CUDA_EMULATION)
#include "tests/emulation/queued_communicator_for_test.h"
#endif

namespace tandem::worker::cuda {

inline int Devices() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

// Skips a test where there is nothing to run it on, and says so.
#define SKIP_WITHOUT_DEVICES(wanted)                                                          \
  if (::tandem::worker::cuda::Devices() < (wanted)) {                                         \
    GTEST_SKIP() << "needs " << (wanted) << " CUDA devices, " << Devices() << " are visible"; \
  }

// What carries the tensors in tests: the host's shared memory, which every machine has.
inline absl::StatusOr<std::unique_ptr<DeviceCommunicator>> MakeStaged(Communicator* control, int64_t largest_bytes) {
  if (control->size() == 1) return std::make_unique<SoloDeviceCommunicator>(control);
  absl::StatusOr<std::unique_ptr<StagedCommunicator>> staged = StagedCommunicator::Create(control, largest_bytes);
  if (!staged.ok()) return staged.status();
  return std::unique_ptr<DeviceCommunicator>(*std::move(staged));
}

// One whose calls can be captured, where there is one that needs no second device.
inline absl::StatusOr<std::unique_ptr<DeviceCommunicator>> MakeCapturable(Communicator* control,
                                                                          int64_t largest_bytes) {
#if defined(TANDEM_CUDA_EMULATION)
  if (control->size() > 1) return std::make_unique<QueuedCommunicator>(control);
#endif
  return MakeStaged(control, largest_bytes);
}

inline std::string GoldenFolder(const std::string& model) {
  return SourcePath(absl::StrCat("tests/golden/models/", model));
}

inline CudaExecutorOptions SmallOptions(const std::string& folder) {
  return {.folder = folder,
          .dtype = "bfloat16",
          .max_batch_tokens = 128,
          .max_sequences = 12,
          .wait_limit = std::chrono::minutes(2)};
}

// Ranks share the devices there are.
inline absl::StatusOr<std::unique_ptr<Executor>> LoadOnDevice(const CudaExecutorOptions& options, Communicator* control,
                                                              const MakeDeviceCommunicator& make = MakeStaged) {
  if (const cudaError_t error = cudaSetDevice(control->rank() % std::max(1, Devices())); error != cudaSuccess) {
    return absl::UnavailableError(cudaGetErrorString(error));
  }
  return LoadCudaExecutor(options, control, make);
}

inline TestModel GpuModel(const CudaExecutorOptions& options, int ranks = 1,
                          const MakeDeviceCommunicator& make = MakeStaged) {
  return TestModel([options, make](Communicator* control) { return LoadOnDevice(options, control, make); }, ranks);
}

}  // namespace tandem::worker::cuda

#endif  // TANDEM_TESTS_GPU_GPU_MODEL_FOR_TEST_H_
