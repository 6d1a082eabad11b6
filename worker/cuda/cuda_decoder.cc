#include "worker/cuda/cuda_decoder.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "worker/cuda/check.h"
#include "worker/cuda/ops/activation.h"
#include "worker/cuda/ops/decode_attention.h"
#include "worker/cuda/ops/embedding.h"
#include "worker/cuda/ops/norm.h"
#include "worker/cuda/ops/prefill_attention.h"
#include "worker/cuda/ops/rope.h"

namespace tandem::worker::cuda {

using model::DType;

CudaDecoder::CudaDecoder(const DecoderLayout& layout, const DecoderBuffers& buffers, DeviceWeights weights,
                         std::unique_ptr<Matmul> matmul, DeviceCommunicator* communicator)
    : layout_(layout),
      config_(*layout.config),
      buffers_(buffers),
      weights_(std::move(weights)),
      output_{weights_.output, nullptr},
      matmul_(std::move(matmul)),
      communicator_(*communicator),
      delta_(buffers_.delta) {}

absl::Status CudaDecoder::Enqueue(const StepShape& step, const KvBlocks& kv, cudaStream_t stream,
                                  absl::FunctionRef<absl::Status()> after_layer) {
  delta_pending_ = false;
  delta_ = DeltaFor(step.tokens);
  TANDEM_RETURN_IF_ERROR(Embedding(step, stream));
  for (int32_t i = 0; i < config_.layers; ++i) {
    const DeviceLayer& layer = weights_.layers[static_cast<size_t>(i)];
    TANDEM_RETURN_IF_ERROR(AttentionBlock(step, layer, i, kv, stream));
    TANDEM_RETURN_IF_ERROR(MlpBlock(step, layer, stream));
    TANDEM_RETURN_IF_ERROR(after_layer());
  }
  return Logits(step, stream);
}

void* CudaDecoder::DeltaFor(int64_t tokens) const {
  void* const room = communicator_.SumRoom(tokens * config_.hidden * model::BytesOf(layout_.type));
  return room != nullptr ? room : buffers_.delta;
}

absl::Status CudaDecoder::Embedding(const StepShape& step, cudaStream_t stream) {
  // The ranks' rows are summed, so one of them adds the positions.
  const bool adds_positions = communicator_.rank() == 0;
  TANDEM_RETURN_IF_ERROR(Embed({.tokens = buffers_.step.tokens,
                                .count = step.tokens,
                                .table = weights_.embedding.data,
                                .type = layout_.type,
                                .first_token = communicator_.rank() * layout_.shape.vocab,
                                .rows = layout_.shape.vocab,
                                .hidden = config_.hidden,
                                .learned_positions = adds_positions ? weights_.positions : nullptr,
                                .positions = buffers_.step.positions,
                                .residual = buffers_.residual},
                               stream));
  if (communicator_.size() > 1) {
    TANDEM_RETURN_IF_ERROR(
        communicator_.AllReduceSum(buffers_.residual, step.tokens * config_.hidden, DType::kFloat32, stream));
  }
  if (config_.position != model::Position::kRotary) return absl::OkStatus();
  return RopeAngles({.frequencies = buffers_.frequencies,
                     .magnitude = static_cast<float>(config_.rope.attention_factor),
                     .positions = buffers_.step.positions,
                     .tokens = step.tokens,
                     .head_dim = config_.head_dim,
                     .angles = buffers_.angles},
                    stream);
}

absl::Status CudaDecoder::Norm(const DeviceNorm& norm, int64_t rows, const int32_t* row_index, cudaStream_t stream) {
  const void* const delta = std::exchange(delta_pending_, false) ? delta_ : nullptr;
  return AddNorm({.norm = config_.norm,
                  .residual = buffers_.residual,
                  .delta = delta,
                  .delta_type = layout_.type,
                  .weight = norm.weight,
                  .bias = norm.bias,
                  .epsilon = static_cast<float>(config_.norm_epsilon),
                  .row_index = row_index,
                  .output = buffers_.normed,
                  .type = layout_.type,
                  .rows = rows,
                  .hidden = config_.hidden},
                 stream);
}

absl::Status CudaDecoder::Product(const DeviceLinear& linear, const void* input, int64_t rows, void* output,
                                  cudaStream_t stream) {
  return matmul_->Run(ProductOf(linear, input, rows, output, layout_.type), stream);
}

absl::Status CudaDecoder::LastProduct(const DeviceLinear& linear, const void* input, int64_t rows,
                                      cudaStream_t stream) {
  if (communicator_.size() > 1) return Product(linear, input, rows, delta_, stream);
  return matmul_->Run(SumOf(linear, input, rows, buffers_.residual, config_.hidden), stream);
}

absl::Status CudaDecoder::AddToResidual(const DeviceLinear& linear, const void* input, int64_t rows,
                                        cudaStream_t stream) {
  TANDEM_RETURN_IF_ERROR(LastProduct(linear, input, rows, stream));
  if (communicator_.size() == 1) return absl::OkStatus();
  TANDEM_RETURN_IF_ERROR(communicator_.AllReduceSum(delta_, rows * config_.hidden, layout_.type, stream));
  delta_pending_ = true;
  return absl::OkStatus();
}

absl::Status CudaDecoder::AttentionBlock(const StepShape& step, const DeviceLayer& layer, int32_t index,
                                         const KvBlocks& kv, cudaStream_t stream) {
  TANDEM_RETURN_IF_ERROR(Norm(layer.attention_norm, step.tokens, nullptr, stream));
  TANDEM_RETURN_IF_ERROR(Product(layer.qkv, buffers_.normed, step.tokens, buffers_.qkv, stream));
  const PagedKv layer_kv{.layer = kv.base + index * kv.layer_bytes,
                         .type = layout_.type,
                         .kv_heads = layout_.shape.kv_heads,
                         .head_dim = config_.head_dim};
  TANDEM_RETURN_IF_ERROR(CacheKv({.qkv = buffers_.qkv,
                                  .qkv_stride = layout_.qkv_width(),
                                  .tokens = step.tokens,
                                  .heads = layout_.shape.heads,
                                  .angles = buffers_.angles,
                                  .query_norm = layer.query_norm,
                                  .key_norm = layer.key_norm,
                                  .norm_epsilon = static_cast<float>(config_.norm_epsilon),
                                  .slots = buffers_.step.slots,
                                  .kv = layer_kv},
                                 stream));
  TANDEM_RETURN_IF_ERROR(Attend(step, index, layer_kv, stream));
  return AddToResidual(layer.attention_out, buffers_.attended, step.tokens, stream);
}

absl::Status CudaDecoder::Attend(const StepShape& step, int32_t index, const PagedKv& kv, cudaStream_t stream) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim));
  const int32_t window = config_.windows[static_cast<size_t>(index)];
  if (step.decodes > 0) {
    TANDEM_RETURN_IF_ERROR(DecodeAttention({.queries = buffers_.qkv,
                                            .query_stride = layout_.qkv_width(),
                                            .output = buffers_.attended,
                                            .output_stride = layout_.query_width(),
                                            .contexts = buffers_.step.contexts,
                                            .block_tables = buffers_.tables,
                                            .table_stride = layout_.limits.table_stride(),
                                            .sequences = step.decodes,
                                            .max_context = layout_.limits.positions,
                                            .heads = layout_.shape.heads,
                                            .window = window,
                                            .scale = scale,
                                            .kv = kv,
                                            .workspace = buffers_.attention_workspace},
                                           stream));
  }
  if (step.prefills == 0) return absl::OkStatus();
  return PrefillAttention({.queries = buffers_.qkv,
                           .query_stride = layout_.qkv_width(),
                           .output = buffers_.attended,
                           .output_stride = layout_.query_width(),
                           .token_begin = buffers_.step.token_begin,
                           .start = buffers_.step.start,
                           .block_tables = buffers_.tables + step.decodes * int64_t{layout_.limits.table_stride()},
                           .table_stride = layout_.limits.table_stride(),
                           .sequences = step.prefills,
                           .max_tokens = step.longest_prefill,
                           .heads = layout_.shape.heads,
                           .window = window,
                           .scale = scale,
                           .kv = kv},
                          stream);
}

absl::Status CudaDecoder::MlpBlock(const StepShape& step, const DeviceLayer& layer, cudaStream_t stream) {
  TANDEM_RETURN_IF_ERROR(Norm(layer.mlp_norm, step.tokens, nullptr, stream));
  TANDEM_RETURN_IF_ERROR(Product(layer.mlp_in, buffers_.normed, step.tokens, buffers_.mlp, stream));
  TANDEM_RETURN_IF_ERROR(Activate(
      {.kind = config_.activation == model::Activation::kSilu ? ActivationKind::kSilu : ActivationKind::kGeluTanh,
       .gated = config_.gated_mlp,
       .input = buffers_.mlp,
       .output = buffers_.activated,
       .type = layout_.type,
       .rows = step.tokens,
       .inner = layout_.shape.intermediate},
      stream));
  return AddToResidual(layer.mlp_out, buffers_.activated, step.tokens, stream);
}

absl::Status CudaDecoder::Logits(const StepShape& step, cudaStream_t stream) {
  if (step.rows == 0) return absl::OkStatus();
  TANDEM_RETURN_IF_ERROR(Norm(weights_.final_norm, step.rows, buffers_.step.rows, stream));
  TANDEM_RETURN_IF_ERROR(OutputProduct(step.rows, stream));
  return step.best ? PickBest(step.rows, stream) : absl::OkStatus();
}

absl::Status CudaDecoder::PickBest(int32_t rows, cudaStream_t stream) {
  const int32_t rank = communicator_.rank();
  TANDEM_RETURN_IF_ERROR(PickBestTokens({.logits = buffers_.logits,
                                         .stride = layout_.shape.vocab,
                                         .rows = rows,
                                         .columns = layout_.vocab_of(rank),
                                         .first_token = static_cast<int32_t>(rank * layout_.shape.vocab),
                                         .best = buffers_.step.best,
                                         .temperature = buffers_.step.temperature,
                                         .reports = buffers_.reports,
                                         .workspace = buffers_.best_workspace},
                                        stream));
  if (communicator_.size() == 1) return absl::OkStatus();
  return communicator_.Gather(buffers_.reports, buffers_.gathered_reports, rows * kReportFloats, DType::kFloat32,
                              stream);
}

absl::Status CudaDecoder::GatherRows(int32_t rows, cudaStream_t stream) {
  if (communicator_.size() == 1) return absl::OkStatus();
  return communicator_.Gather(buffers_.logits, buffers_.gathered, int64_t{rows} * layout_.shape.vocab, DType::kFloat32,
                              stream);
}

absl::Status CudaDecoder::OutputProduct(int64_t rows, cudaStream_t stream) {
  return matmul_->Run({.input = buffers_.normed,
                       .input_stride = config_.hidden,
                       .linear = &output_,
                       .output = buffers_.logits,
                       .output_stride = layout_.shape.vocab,
                       .output_type = DType::kFloat32,
                       .rows = rows},
                      stream);
}

absl::Status CudaDecoder::TouchProducts(int64_t rows, cudaStream_t stream) {
  const DeviceLayer& layer = weights_.layers[0];
  delta_ = buffers_.delta;
  TANDEM_RETURN_IF_ERROR(Product(layer.qkv, buffers_.normed, rows, buffers_.qkv, stream));
  TANDEM_RETURN_IF_ERROR(LastProduct(layer.attention_out, buffers_.attended, rows, stream));
  TANDEM_RETURN_IF_ERROR(Product(layer.mlp_in, buffers_.normed, rows, buffers_.mlp, stream));
  TANDEM_RETURN_IF_ERROR(LastProduct(layer.mlp_out, buffers_.activated, rows, stream));
  return OutputProduct(std::min<int64_t>(rows, layout_.limits.sequences), stream);
}

absl::Status CudaDecoder::TouchSums(int64_t rows, cudaStream_t stream) {
  if (communicator_.size() == 1) return absl::OkStatus();
  TANDEM_RETURN_IF_ERROR(communicator_.AllReduceSum(buffers_.residual, rows * config_.hidden, DType::kFloat32, stream));
  return communicator_.AllReduceSum(DeltaFor(rows), rows * config_.hidden, layout_.type, stream);
}

const RowReport* CudaDecoder::ReportsOf(int32_t rank, int32_t rows) const {
  if (communicator_.size() == 1) return buffers_.reports;
  return buffers_.gathered_reports + int64_t{rank} * rows;
}

const float* CudaDecoder::LogitsOf(int32_t rank, int32_t rows) const {
  if (communicator_.size() == 1) return buffers_.logits;
  return buffers_.gathered + int64_t{rank} * rows * layout_.shape.vocab;
}

}  // namespace tandem::worker::cuda
