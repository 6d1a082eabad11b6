// One rank's weights of a decoder in device memory: matrices in the model's half-width type; norms, biases and learned
// positions in float32. The slices come from the same plan as the CPU's (worker/model/shard_plan.h); weight_layout.h
// says how they come to the device.
#ifndef TANDEM_WORKER_CUDA_DEVICE_WEIGHTS_H_
#define TANDEM_WORKER_CUDA_DEVICE_WEIGHTS_H_

#include <vector>

#include "worker/cuda/device_memory.h"
#include "worker/cuda/weight_layout.h"
#include "worker/model/shard_plan.h"

namespace tandem::worker::cuda {

struct DeviceWeights {
  DeviceMatrix embedding;
  float* positions = nullptr;
  std::vector<DeviceLayer> layers;
  DeviceNorm final_norm;
  DeviceMatrix output;  // the embedding itself where the two are tied
  DeviceMemory memory;  // holds all of it
};

void VisitWeights(const ShardPlan& plan, DeviceWeights* weights, const WeightVisitor& visitor);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_DEVICE_WEIGHTS_H_
