// The weights of a CLIP model, in memory: matrices packed for the kernels, tables, norms and biases in float32.
#ifndef TANDEM_WORKER_MODEL_CLIP_WEIGHTS_H_
#define TANDEM_WORKER_MODEL_CLIP_WEIGHTS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "base/model/clip_config.h"
#include "base/model/dtype.h"
#include "base/model/safetensors.h"
#include "worker/model/decoder_weights.h"
#include "worker/model/memory_arena.h"

namespace tandem::worker {

struct ClipTowerWeights {
  const float* positions = nullptr;  // [positions][hidden]
  std::vector<LayerWeights> layers;  // the norms stand before their blocks
  NormWeights last_norm;             // of the one token whose state is taken
  LinearWeights projection;          // [vector][hidden], no bias
};

struct ClipWeights {
  ClipTowerWeights text;
  ClipTowerWeights image;
  const float* words = nullptr;        // [vocab][hidden of texts]
  const float* class_token = nullptr;  // [hidden of pictures]
  LinearWeights patches;               // [hidden of pictures][3 patch patch], no bias
  NormWeights first_norm;              // of pictures, before the first layer

  int64_t vector_bytes = 0;
  int64_t packed_bytes = 0;
  MemoryArena arena;  // holds all of it
};

// Names and shapes of all tensors are as the config says. Takes no memory.
absl::Status CheckClipWeights(const model::ClipConfig& config, const model::WeightFiles& files);

// Copies the tensors out of the files, which may be closed afterwards. REQUIRES: they were checked.
absl::StatusOr<ClipWeights> LoadClipWeights(const model::ClipConfig& config, const model::WeightFiles& files,
                                            model::DType stored);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_MODEL_CLIP_WEIGHTS_H_
