#include "worker/cuda/cuda_encoder.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/model/model_memory.h"
#include "worker/cuda/ops/activation.h"
#include "worker/cuda/ops/embedding.h"
#include "worker/cuda/ops/gather.h"
#include "worker/cuda/ops/gemv.h"
#include "worker/cuda/ops/norm.h"
#include "worker/cuda/ops/pool.h"
#include "worker/cuda/ops/prefill_attention.h"
#include "worker/cuda/ops/rope.h"

#define RETURN_IF_ERROR(expression)                                      \
  do {                                                                   \
    if (absl::Status status = (expression); !status.ok()) return status; \
  } while (false)

namespace tandem::worker::cuda {
namespace {

using model::DType;

ActivationKind KindOf(model::EncoderActivation activation) {
  switch (activation) {
    case model::EncoderActivation::kGelu:
      return ActivationKind::kGeluErf;
    case model::EncoderActivation::kGeluTanh:
      return ActivationKind::kGeluTanh;
    case model::EncoderActivation::kRelu:
      return ActivationKind::kRelu;
  }
  return ActivationKind::kGeluErf;
}

}  // namespace

EncoderBuffers TakeEncoderBuffers(const EncoderLayout& layout, MemoryCursor* cursor) {
  const model::EncoderConfig& config = *layout.config;
  const int64_t tokens = layout.limits.tokens;
  const int64_t texts = layout.limits.texts;
  const int64_t element = model::BytesOf(layout.type);
  const bool classifies = config.head == model::EncoderHead::kClassifier;
  EncoderBuffers buffers;
  buffers.residual = cursor->Take<float>(tokens * config.hidden);
  buffers.normed = cursor->TakeBytes(tokens * config.hidden * element);
  const int64_t qkv_bytes = model::RoundUp(tokens * 3 * config.hidden * element, kDeviceAlignment);
  const int64_t attended_bytes = tokens * config.hidden * element;
  const int64_t mlp_bytes = tokens * config.intermediate * element;
  if (uint8_t* const shared = cursor->TakeBytes(std::max(qkv_bytes + attended_bytes, mlp_bytes)); shared != nullptr) {
    buffers.qkv = shared;
    buffers.attended = shared + qkv_bytes;
    buffers.mlp = shared;
  }
  buffers.kv_bytes = layout.limits.blocks() * layout.kv(nullptr).bytes_per_block();
  buffers.kv = cursor->TakeBytes(buffers.kv_bytes);
  buffers.first = cursor->TakeBytes(classifies ? texts * config.hidden * element : 0);
  buffers.dense = cursor->TakeBytes(classifies ? texts * config.hidden * element : 0);
  buffers.vectors = cursor->Take<float>(texts * config.vector_size());
  buffers.matmul_workspace = cursor->TakeBytes(kMatmulWorkspaceBytes);
  buffers.step = TakeTextArrays(layout.limits, cursor);
  return buffers;
}

int64_t EncoderBufferBytes(const EncoderLayout& layout) {
  MemoryCursor counting = MemoryCursor::Counting();
  TakeEncoderBuffers(layout, &counting);
  return counting.taken();
}

CudaEncoder::CudaEncoder(const EncoderLayout& layout, const EncoderBuffers& buffers, DeviceEncoderWeights weights,
                         std::unique_ptr<Matmul> matmul)
    : layout_(layout),
      config_(*layout.config),
      buffers_(buffers),
      weights_(std::move(weights)),
      matmul_(std::move(matmul)) {}

absl::Status CudaEncoder::Enqueue(const TextShape& step, cudaStream_t stream,
                                  absl::FunctionRef<absl::Status()> after_layer) {
  RETURN_IF_ERROR(Embedding(step, stream));
  for (const DeviceLayer& layer : weights_.layers) {
    RETURN_IF_ERROR(AttentionBlock(step, layer, stream));
    RETURN_IF_ERROR(MlpBlock(step, layer, stream));
    RETURN_IF_ERROR(after_layer());
  }
  if (config_.head == model::EncoderHead::kClassifier) return Classify(step, stream);
  return Pool({.states = buffers_.residual,
               .token_begin = buffers_.step.token_begin,
               .texts = step.texts,
               .hidden = config_.hidden,
               .pooling = config_.pooling,
               .normalize = config_.normalize,
               .output = buffers_.vectors},
              stream);
}

absl::Status CudaEncoder::Embedding(const TextShape& step, cudaStream_t stream) {
  RETURN_IF_ERROR(Embed({.tokens = buffers_.step.tokens,
                         .count = step.tokens,
                         .table = weights_.words.data,
                         .type = layout_.type,
                         .rows = config_.vocab,
                         .hidden = config_.hidden,
                         .learned_positions = weights_.positions,
                         .positions = buffers_.step.positions,
                         .segment_table = weights_.types,
                         .segments = buffers_.step.segments,
                         .residual = buffers_.residual},
                        stream));
  return Norm(weights_.embedding_norm, step.tokens, stream);
}

absl::Status CudaEncoder::Norm(const DeviceNorm& norm, int64_t rows, cudaStream_t stream) {
  return AddNorm({.norm = model::Norm::kLayer,
                  .residual = buffers_.residual,
                  .weight = norm.weight,
                  .bias = norm.bias,
                  .epsilon = static_cast<float>(config_.norm_epsilon),
                  .output = buffers_.normed,
                  .type = layout_.type,
                  .normed_residual = true,
                  .rows = rows,
                  .hidden = config_.hidden},
                 stream);
}

absl::Status CudaEncoder::Product(const DeviceLinear& linear, const void* input, int64_t rows, void* output,
                                  cudaStream_t stream) {
  return matmul_->Run(ProductOf(linear, input, rows, output, layout_.type), stream);
}

absl::Status CudaEncoder::AddToResidual(const DeviceLinear& linear, const void* input, int64_t rows,
                                        cudaStream_t stream) {
  return matmul_->Run(SumOf(linear, input, rows, buffers_.residual, config_.hidden), stream);
}

absl::Status CudaEncoder::AttentionBlock(const TextShape& step, const DeviceLayer& layer, cudaStream_t stream) {
  RETURN_IF_ERROR(Product(layer.qkv, buffers_.normed, step.tokens, buffers_.qkv, stream));
  const PagedKv kv = layout_.kv(buffers_.kv);
  const int64_t qkv_width = int64_t{3} * config_.hidden;
  RETURN_IF_ERROR(CacheKv({.qkv = buffers_.qkv,
                           .qkv_stride = qkv_width,
                           .tokens = step.tokens,
                           .heads = config_.heads,
                           .slots = buffers_.step.slots,
                           .kv = kv},
                          stream));
  RETURN_IF_ERROR(PrefillAttention({.queries = buffers_.qkv,
                                    .query_stride = qkv_width,
                                    .output = buffers_.attended,
                                    .output_stride = config_.hidden,
                                    .token_begin = buffers_.step.token_begin,
                                    .start = buffers_.step.start,
                                    .block_tables = buffers_.step.tables,
                                    .table_stride = layout_.limits.table_stride(),
                                    .sequences = step.texts,
                                    .max_tokens = step.longest,
                                    .heads = config_.heads,
                                    .both_ways = true,
                                    .scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim)),
                                    .kv = kv},
                                   stream));
  RETURN_IF_ERROR(AddToResidual(layer.attention_out, buffers_.attended, step.tokens, stream));
  return Norm(layer.attention_norm, step.tokens, stream);
}

absl::Status CudaEncoder::MlpBlock(const TextShape& step, const DeviceLayer& layer, cudaStream_t stream) {
  RETURN_IF_ERROR(Product(layer.mlp_in, buffers_.normed, step.tokens, buffers_.mlp, stream));
  RETURN_IF_ERROR(Activate({.kind = KindOf(config_.activation),
                            .gated = false,
                            .input = buffers_.mlp,
                            .output = buffers_.mlp,
                            .type = layout_.type,
                            .rows = step.tokens,
                            .inner = config_.intermediate},
                           stream));
  RETURN_IF_ERROR(AddToResidual(layer.mlp_out, buffers_.mlp, step.tokens, stream));
  return Norm(layer.mlp_norm, step.tokens, stream);
}

// From each text's first token: dense, tanh, and one number per label.
absl::Status CudaEncoder::Classify(const TextShape& step, cudaStream_t stream) {
  const int64_t hidden = config_.hidden;
  RETURN_IF_ERROR(GatherRows({.input = buffers_.normed,
                              .row_index = buffers_.step.token_begin,
                              .output = buffers_.first,
                              .type = layout_.type,
                              .rows = step.texts,
                              .columns = hidden},
                             stream));
  RETURN_IF_ERROR(Product(weights_.head_dense, buffers_.first, step.texts, buffers_.dense, stream));
  RETURN_IF_ERROR(Activate({.kind = ActivationKind::kTanh,
                            .gated = false,
                            .input = buffers_.dense,
                            .output = buffers_.dense,
                            .type = layout_.type,
                            .rows = step.texts,
                            .inner = hidden},
                           stream));
  // By the kernel for a few rows: a product with one or two columns is none that cuBLASLt is made for.
  const int64_t element = model::BytesOf(layout_.type);
  for (int64_t row = 0; row < step.texts; row += kGemvMaxRows) {
    RETURN_IF_ERROR(matmul_->Run({.input = static_cast<const uint8_t*>(buffers_.dense) + row * hidden * element,
                                  .input_stride = hidden,
                                  .linear = &weights_.head_out,
                                  .output = buffers_.vectors + row * config_.labels,
                                  .output_stride = config_.labels,
                                  .output_type = DType::kFloat32,
                                  .rows = std::min<int64_t>(kGemvMaxRows, step.texts - row)},
                                 stream));
  }
  return absl::OkStatus();
}

}  // namespace tandem::worker::cuda
