// The kernels of a decode step, each alone, beside what its bytes and operations take at least (kernel_work.h).
#ifndef TANDEM_BENCH_CUDA_KERNELS_H_
#define TANDEM_BENCH_CUDA_KERNELS_H_

#include <cuda_runtime.h>

#include <vector>

#include "base/model/model_config.h"
#include "nlohmann/json.hpp"

namespace tandem::bench {

struct DeviceRates {
  double copy = 0;     // bytes per second
  double product = 0;  // operations per second
};

// One line for each kernel and batch, and "kernels" in `result`. Weights and caches are taken from places that follow
// each other in a stretch larger than the second-level cache, as far as the device has the memory; what is small stays
// in the cache, as it does in a step, and takes the time of a launch.
void MeasureKernels(const model::DecoderConfig& config, const DeviceRates& rates, const std::vector<int>& batches,
                    int context, bool tiny, cudaStream_t stream, nlohmann::json* result);

// The bounds alone, of a whole step by kernel, at the vendor's figures for three devices.
void PrintPublishedBounds(const model::DecoderConfig& config, const std::vector<int>& batches, int context);

}  // namespace tandem::bench

#endif  // TANDEM_BENCH_CUDA_KERNELS_H_
