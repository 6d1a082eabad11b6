// How many bytes a model takes of a GPU, from its config alone: what placement plans with until a load was measured. Of
// decoders one rank; encoders have one. The twin of model_memory.h, encoder_memory.h and clip_memory.h, which count for
// CPU devices.
//
// Weights and arena are counted buffer by buffer as the CUDA executors lay them out (worker/cuda: decoder_buffers,
// encoder_layers, cuda_encoder, cuda_clip; tests/emulation holds both together). The rest can not be known from a
// config: what the driver, the kernels' code, graphs and NCCL take differs with their versions. These are allowances,
// on the safe side, and the first measured load replaces them.
#ifndef TANDEM_BASE_MODEL_CUDA_MEMORY_H_
#define TANDEM_BASE_MODEL_CUDA_MEMORY_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "base/model/clip_config.h"
#include "base/model/dtype.h"
#include "base/model/encoder_config.h"
#include "base/model/model_config.h"
#include "base/model/model_memory.h"

namespace tandem::model {

struct CudaMemoryQuery {
  int32_t ranks = 1;
  DType dtype = DType::kBFloat16;  // of weights, KV and most of the arena
  bool first_rank = true;          // collects the logits of all, and adds the biases that are added once
  int32_t max_batch_tokens = 512;
  int32_t max_sequences = 64;
  int32_t max_model_len = 0;  // longest context that will come; 0: the model's own
};

struct CudaMemory {
  int64_t weight_bytes = 0;
  int64_t arena_bytes = 0;         // a full step's buffers, cuBLASLt's workspace among them
  int64_t graph_bytes = 0;         // allowances, from here
  int64_t communicator_bytes = 0;  // of NCCL; one rank has none
  int64_t context_bytes = 0;       // the process's context and the kernels' code
  int64_t kv_bytes_per_token = 0;  // not in Static()

  int64_t Static() const { return weight_bytes + arena_bytes + graph_bytes + communicator_bytes + context_bytes; }
};

// Errors as MemoryOfRank.
absl::StatusOr<CudaMemory> CudaMemoryOfRank(const DecoderConfig& config, const CudaMemoryQuery& query);

struct CudaEncoderQuery {
  DType dtype = DType::kFloat16;  // of weights and most of the arena
  int32_t max_batch_tokens = 512;
  int32_t max_sequences = 64;
};

// The engine's queue, which stands in the place of a KV pool, is the host's: kv_bytes_per_token counts it all the same,
// since it is what the scheduler books and limits an encoder's requests by.
CudaMemory CudaMemoryOfEncoder(const EncoderConfig& config, const CudaEncoderQuery& query);
CudaMemory CudaMemoryOfClip(const ClipConfig& config, const CudaEncoderQuery& query);

}  // namespace tandem::model

#endif  // TANDEM_BASE_MODEL_CUDA_MEMORY_H_
