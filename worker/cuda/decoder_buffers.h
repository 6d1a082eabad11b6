// The working memory of a decoder on a device: every buffer that a step of the largest size needs, laid out in one
// arena.
//
// Attention and MLP share a part of it, since a layer never needs both. The layout is made by one function, which also
// counts: run on a counting cursor it is the memory arithmetic, and needs no device.
#ifndef TANDEM_WORKER_CUDA_DECODER_BUFFERS_H_
#define TANDEM_WORKER_CUDA_DECODER_BUFFERS_H_

#include <algorithm>
#include <cstdint>

#include "base/model/model_config.h"
#include "base/model/model_memory.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/ops/sampling.h"
#include "worker/cuda/step_batch.h"

namespace tandem::worker::cuda {

// What the buffers depend on.
struct DecoderLayout {
  const model::DecoderConfig* config = nullptr;
  model::RankShape shape;  // of a rank
  StepLimits limits;
  model::DType type = model::DType::kBFloat16;
  bool first_rank = true;  // collects the logits of all

  int64_t query_width() const { return int64_t{shape.heads} * config->head_dim; }
  int64_t kv_width() const { return int64_t{shape.kv_heads} * config->head_dim; }
  int64_t qkv_width() const { return query_width() + 2 * kv_width(); }
  // Tokens of the vocabulary that are a rank's, padding not counted.
  int32_t vocab_of(int32_t rank) const {
    return static_cast<int32_t>(std::clamp<int64_t>(config->vocab - int64_t{rank} * shape.vocab, 0, shape.vocab));
  }
  int64_t mlp_width() const { return int64_t{config->gated_mlp ? 2 : 1} * shape.intermediate; }
};

// "half" is the layout's type.
struct DecoderBuffers {
  float* residual = nullptr;              // [tokens][hidden]
  void* normed = nullptr;                 // half [max(tokens, sequences)][hidden]
  void* delta = nullptr;                  // half [tokens][hidden]: a block's part of the sum; several ranks only
  void* qkv = nullptr;                    // half [tokens][qkv_width]
  void* attended = nullptr;               // half [tokens][query_width]
  void* mlp = nullptr;                    // half [tokens][mlp_width], where qkv is
  void* activated = nullptr;              // half [tokens][intermediate]
  float* frequencies = nullptr;           // [head_dim / 2], rotary models only
  float* angles = nullptr;                // [tokens][head_dim], rotary models only
  float* attention_workspace = nullptr;   // decode_attention.h
  float* logits = nullptr;                // [sequences][vocab of this rank]
  float* gathered = nullptr;              // [ranks][sequences][vocab of a rank]: rank 0 of several
  RowReport* reports = nullptr;           // [sequences]
  RowReport* gathered_reports = nullptr;  // [ranks][sequences]: rank 0 of several
  void* best_workspace = nullptr;         // BestTokensWorkspaceBytes
  void* matmul_workspace = nullptr;       // kMatmulWorkspaceBytes
  StepArrays step;
  int32_t* tables = nullptr;  // [sequences][table_stride]
};

DecoderBuffers TakeDecoderBuffers(const DecoderLayout& layout, MemoryCursor* cursor);
int64_t DecoderBufferBytes(const DecoderLayout& layout);

// Keys and values of one block, all layers.
int64_t KvBlockBytes(const DecoderLayout& layout);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_DECODER_BUFFERS_H_
