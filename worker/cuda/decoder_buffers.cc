#include "worker/cuda/decoder_buffers.h"

#include <algorithm>

#include "worker/cuda/cublaslt_matmul.h"
#include "worker/cuda/ops/decode_attention.h"
#include "worker/cuda/ops/paged_kv.h"

namespace tandem::worker::cuda {
namespace {

int64_t Aligned(int64_t bytes) { return model::RoundUp(bytes, kDeviceAlignment); }

}  // namespace

DecoderBuffers TakeDecoderBuffers(const DecoderLayout& layout, MemoryCursor* cursor) {
  const model::DecoderConfig& config = *layout.config;
  const int64_t tokens = layout.limits.tokens;
  const int64_t sequences = layout.limits.sequences;
  const int64_t element = model::BytesOf(layout.type);
  const bool rotary = config.position == model::Position::kRotary;
  DecoderBuffers buffers;
  buffers.residual = cursor->Take<float>(tokens * config.hidden);
  buffers.normed = cursor->TakeBytes(std::max(tokens, sequences) * config.hidden * element);
  if (layout.shape.size > 1) buffers.delta = cursor->TakeBytes(tokens * config.hidden * element);

  const int64_t qkv_bytes = Aligned(tokens * layout.qkv_width() * element);
  const int64_t attended_bytes = Aligned(tokens * layout.query_width() * element);
  const int64_t mlp_bytes = Aligned(tokens * layout.mlp_width() * element);
  const int64_t activated_bytes = Aligned(tokens * layout.shape.intermediate * element);
  const int64_t shared_bytes = std::max(qkv_bytes + attended_bytes, mlp_bytes + activated_bytes);
  if (uint8_t* const shared = cursor->TakeBytes(shared_bytes); shared != nullptr) {
    buffers.qkv = shared;
    buffers.attended = shared + qkv_bytes;
    buffers.mlp = shared;
    buffers.activated = shared + mlp_bytes;
  }
  buffers.frequencies = cursor->Take<float>(rotary ? config.head_dim / 2 : 0);
  buffers.angles = cursor->Take<float>(rotary ? tokens * config.head_dim : 0);
  buffers.attention_workspace = reinterpret_cast<float*>(cursor->TakeBytes(
      DecodeWorkspaceBytes(layout.limits.sequences, layout.shape.heads, config.head_dim, layout.limits.positions)));
  buffers.logits = cursor->Take<float>(sequences * layout.shape.vocab);
  if (layout.shape.size > 1 && layout.first_rank) {
    buffers.gathered = cursor->Take<float>(sequences * layout.shape.padded_vocab);
  }
  buffers.reports = cursor->Take<RowReport>(sequences);
  if (layout.shape.size > 1 && layout.first_rank) {
    buffers.gathered_reports = cursor->Take<RowReport>(sequences * layout.shape.size);
  }
  buffers.best_workspace =
      cursor->TakeBytes(BestTokensWorkspaceBytes(layout.limits.sequences, static_cast<int32_t>(layout.shape.vocab)));
  buffers.matmul_workspace = cursor->TakeBytes(kMatmulWorkspaceBytes);
  buffers.step = TakeStepArrays(layout.limits, cursor);
  buffers.tables = cursor->Take<int32_t>(sequences * layout.limits.table_stride());
  return buffers;
}

int64_t DecoderBufferBytes(const DecoderLayout& layout) {
  MemoryCursor counting = MemoryCursor::Counting();
  TakeDecoderBuffers(layout, &counting);
  return counting.taken();
}

int64_t KvBlockBytes(const DecoderLayout& layout) {
  const PagedKv kv{.type = layout.type, .kv_heads = layout.shape.kv_heads, .head_dim = layout.config->head_dim};
  return layout.config->layers * kv.bytes_per_block();
}

}  // namespace tandem::worker::cuda
