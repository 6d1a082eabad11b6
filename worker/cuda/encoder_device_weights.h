// The weights of encoders in device memory, of texts' and of CLIP: matrices and the table of words in the model's
// half-width type; the other tables, norms and biases in float32. weight_layout.h says how they come there.
#ifndef TANDEM_WORKER_CUDA_ENCODER_DEVICE_WEIGHTS_H_
#define TANDEM_WORKER_CUDA_ENCODER_DEVICE_WEIGHTS_H_

#include <vector>

#include "worker/cuda/device_memory.h"
#include "worker/cuda/weight_layout.h"
#include "worker/model/clip_plan.h"
#include "worker/model/encoder_plan.h"

namespace tandem::worker::cuda {

struct DeviceEncoderWeights {
  DeviceMatrix words;          // [vocab][hidden]
  float* positions = nullptr;  // [positions][hidden]
  float* types = nullptr;      // [types][hidden]
  DeviceNorm embedding_norm;
  std::vector<DeviceLayer> layers;  // the norms stand behind their blocks
  DeviceLinear head_dense;          // of a classifier, as is
  DeviceLinear head_out;
  DeviceMemory memory;  // holds all of it
};

void VisitWeights(const EncoderPlan& plan, DeviceEncoderWeights* weights, const WeightVisitor& visitor);

struct DeviceClipTower {
  float* positions = nullptr;       // [positions][hidden]
  std::vector<DeviceLayer> layers;  // the norms stand before their blocks
  DeviceNorm last_norm;
  DeviceLinear projection;  // no bias
};

struct DeviceClipWeights {
  DeviceClipTower text;
  DeviceClipTower image;
  DeviceMatrix words;        // [vocab][hidden of texts]
  DeviceMatrix class_token;  // [1][hidden of pictures]
  DeviceLinear patches;      // [hidden of pictures][3 patch patch], no bias
  DeviceNorm first_norm;     // of pictures
  float* colours = nullptr;  // [3][256]: what a byte of each colour stands for
  DeviceMemory memory;       // holds all of it
};

void VisitWeights(const ClipPlan& plan, DeviceClipWeights* weights, const WeightVisitor& visitor);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_ENCODER_DEVICE_WEIGHTS_H_
