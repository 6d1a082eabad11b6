// The weights of an encoder, in memory: matrices packed for the kernels, tables, norms and biases in float32.
#ifndef TANDEM_WORKER_MODEL_ENCODER_WEIGHTS_H_
#define TANDEM_WORKER_MODEL_ENCODER_WEIGHTS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "base/model/dtype.h"
#include "base/model/encoder_config.h"
#include "base/model/safetensors.h"
#include "worker/model/decoder_weights.h"
#include "worker/model/memory_arena.h"

namespace tandem::worker {

struct EncoderWeights {
  const float* words = nullptr;      // [vocab][hidden]
  const float* positions = nullptr;  // [positions][hidden]
  const float* types = nullptr;      // [types][hidden]
  NormWeights embedding_norm;
  std::vector<LayerWeights> layers;  // the norms stand behind their blocks
  LinearWeights head_dense;          // of a classifier, as is
  LinearWeights head_out;

  int64_t vector_bytes = 0;  // tables, norms, biases
  int64_t packed_bytes = 0;  // matrices
  MemoryArena arena;         // holds all of it
};

// Names and shapes of all tensors are as the config says. Takes no memory.
absl::Status CheckEncoderWeights(const model::EncoderConfig& config, const model::WeightFiles& files);

// Copies the tensors out of the files, which may be closed afterwards. REQUIRES: they were checked.
absl::StatusOr<EncoderWeights> LoadEncoderWeights(const model::EncoderConfig& config, const model::WeightFiles& files,
                                                  model::DType stored);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_MODEL_ENCODER_WEIGHTS_H_
