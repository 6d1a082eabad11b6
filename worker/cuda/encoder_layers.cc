#include "worker/cuda/encoder_layers.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/model/model_memory.h"
#include "worker/cuda/check.h"
#include "worker/cuda/ops/norm.h"
#include "worker/cuda/ops/paged_kv.h"
#include "worker/cuda/ops/prefill_attention.h"
#include "worker/cuda/ops/rope.h"

namespace tandem::worker::cuda {
namespace {

using model::DType;

PagedKv KvOf(const EncoderTower& tower, DType type, void* blocks) {
  return {.layer = blocks, .type = type, .kv_heads = tower.heads, .head_dim = tower.head_dim};
}

int64_t QkvBytes(const EncoderTower& tower, DType type, int64_t rows) {
  return model::RoundUp(rows * 3 * tower.hidden * model::BytesOf(type), kDeviceAlignment);
}

}  // namespace

TowerBuffers TakeTowerBuffers(absl::Span<const TowerRoom> towers, DType type, int64_t other_scratch,
                              MemoryCursor* cursor) {
  const int64_t element = model::BytesOf(type);
  int64_t rows = 0;  // elements of [tokens][hidden]
  int64_t scratch = other_scratch;
  int64_t kv = 0;
  for (const TowerRoom& room : towers) {
    const EncoderTower& tower = room.tower;
    const int64_t tokens = room.limits.tokens;
    rows = std::max(rows, tokens * tower.hidden);
    scratch = std::max({scratch, QkvBytes(tower, type, tokens) + tokens * tower.hidden * element,
                        tokens * tower.intermediate * element});
    kv = std::max(kv, room.limits.blocks() * KvOf(tower, type, nullptr).bytes_per_block());
  }
  TowerBuffers buffers;
  buffers.residual = cursor->Take<float>(rows);
  buffers.normed = cursor->TakeBytes(rows * element);
  buffers.scratch = cursor->TakeBytes(scratch);
  buffers.kv = cursor->TakeBytes(kv);
  buffers.matmul_workspace = cursor->TakeBytes(kMatmulWorkspaceBytes);
  return buffers;
}

absl::StatusOr<std::unique_ptr<EncoderLayers>> EncoderLayers::Create(DType type, const TowerBuffers& buffers) {
  absl::StatusOr<std::unique_ptr<Matmul>> matmul = Matmul::Create(type, buffers.matmul_workspace);
  if (!matmul.ok()) return matmul.status();
  return std::unique_ptr<EncoderLayers>(new EncoderLayers(type, buffers, *std::move(matmul)));
}

absl::Status EncoderLayers::Run(const EncoderTower& tower, const std::vector<DeviceLayer>& layers,
                                const TextShape& step, const TextArrays& arrays, int64_t table_stride,
                                cudaStream_t stream, absl::FunctionRef<absl::Status()> after_layer) {
  const bool first = tower.norms_first;
  for (const DeviceLayer& layer : layers) {
    if (first) TANDEM_RETURN_IF_ERROR(Norm(tower, layer.attention_norm, step.tokens, stream));
    TANDEM_RETURN_IF_ERROR(Attention(tower, layer, step, arrays, table_stride, stream));
    TANDEM_RETURN_IF_ERROR(first ? Norm(tower, layer.mlp_norm, step.tokens, stream)
                                 : NormInPlace(tower, layer.attention_norm, step.tokens, stream));
    TANDEM_RETURN_IF_ERROR(Mlp(tower, layer, step.tokens, stream));
    if (!first) TANDEM_RETURN_IF_ERROR(NormInPlace(tower, layer.mlp_norm, step.tokens, stream));
    TANDEM_RETURN_IF_ERROR(after_layer());
  }
  return absl::OkStatus();
}

absl::Status EncoderLayers::Norm(const EncoderTower& tower, const DeviceNorm& norm, int64_t rows, cudaStream_t stream) {
  return AddNorm({.norm = model::Norm::kLayer,
                  .residual = buffers_.residual,
                  .weight = norm.weight,
                  .bias = norm.bias,
                  .epsilon = tower.norm_epsilon,
                  .output = buffers_.normed,
                  .type = type_,
                  .rows = rows,
                  .hidden = tower.hidden},
                 stream);
}

absl::Status EncoderLayers::NormInPlace(const EncoderTower& tower, const DeviceNorm& norm, int64_t rows,
                                        cudaStream_t stream) {
  return AddNorm({.norm = model::Norm::kLayer,
                  .residual = buffers_.residual,
                  .weight = norm.weight,
                  .bias = norm.bias,
                  .epsilon = tower.norm_epsilon,
                  .output = buffers_.normed,
                  .type = type_,
                  .normed_residual = true,
                  .rows = rows,
                  .hidden = tower.hidden},
                 stream);
}

absl::Status EncoderLayers::Product(const DeviceLinear& linear, const void* input, int64_t rows, void* output,
                                    cudaStream_t stream) {
  return matmul_->Run(ProductOf(linear, input, rows, output, type_), stream);
}

absl::Status EncoderLayers::AddToResidual(const EncoderTower& tower, const DeviceLinear& linear, const void* input,
                                          int64_t rows, cudaStream_t stream) {
  return matmul_->Run(SumOf(linear, input, rows, buffers_.residual, tower.hidden), stream);
}

absl::Status EncoderLayers::Attention(const EncoderTower& tower, const DeviceLayer& layer, const TextShape& step,
                                      const TextArrays& arrays, int64_t table_stride, cudaStream_t stream) {
  uint8_t* const qkv = buffers_.scratch;
  uint8_t* const attended = qkv + QkvBytes(tower, type_, step.tokens);
  TANDEM_RETURN_IF_ERROR(Product(layer.qkv, buffers_.normed, step.tokens, qkv, stream));
  const PagedKv kv = KvOf(tower, type_, buffers_.kv);
  const int64_t qkv_width = int64_t{3} * tower.hidden;
  TANDEM_RETURN_IF_ERROR(CacheKv({.qkv = qkv,
                                  .qkv_stride = qkv_width,
                                  .tokens = step.tokens,
                                  .heads = tower.heads,
                                  .slots = arrays.slots,
                                  .kv = kv},
                                 stream));
  TANDEM_RETURN_IF_ERROR(PrefillAttention({.queries = qkv,
                                           .query_stride = qkv_width,
                                           .output = attended,
                                           .output_stride = tower.hidden,
                                           .token_begin = arrays.token_begin,
                                           .start = arrays.start,
                                           .block_tables = arrays.tables,
                                           .table_stride = table_stride,
                                           .sequences = step.texts,
                                           .max_tokens = step.longest,
                                           .heads = tower.heads,
                                           .both_ways = tower.both_ways,
                                           .scale = 1.0f / std::sqrt(static_cast<float>(tower.head_dim)),
                                           .kv = kv},
                                          stream));
  return AddToResidual(tower, layer.attention_out, attended, step.tokens, stream);
}

absl::Status EncoderLayers::Mlp(const EncoderTower& tower, const DeviceLayer& layer, int64_t rows,
                                cudaStream_t stream) {
  uint8_t* const inner = buffers_.scratch;
  TANDEM_RETURN_IF_ERROR(Product(layer.mlp_in, buffers_.normed, rows, inner, stream));
  TANDEM_RETURN_IF_ERROR(Activate({.kind = tower.activation,
                                   .gated = false,
                                   .input = inner,
                                   .output = inner,
                                   .type = type_,
                                   .rows = rows,
                                   .inner = tower.intermediate},
                                  stream));
  return AddToResidual(tower, layer.mlp_out, inner, rows, stream);
}

}  // namespace tandem::worker::cuda
