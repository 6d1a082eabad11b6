#include "worker/cuda/cuda_encoder.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/model/encoder_config.h"
#include "base/model/encoder_memory.h"
#include "worker/cuda/check.h"
#include "worker/cuda/encoder_device_weights.h"
#include "worker/cuda/encoder_layers.h"
#include "worker/cuda/ops/embedding.h"
#include "worker/cuda/ops/gather.h"
#include "worker/cuda/ops/gemv.h"
#include "worker/cuda/ops/pool.h"
#include "worker/model/encoder_plan.h"

namespace tandem::worker::cuda {
namespace {

using model::DType;
using model::EncoderConfig;

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

class CudaEncoder final : public DeviceEncoder {
 public:
  CudaEncoder(EncoderConfig config, const CudaExecutorOptions& options, EncoderFiles files, EncoderPlan plan)
      : config_(std::move(config)),
        type_(files.type),
        limits_{.tokens = model::EncoderBatchTokens(config_, options.max_batch_tokens),
                .texts = options.max_sequences,
                .longest = config_.max_tokens},
        bounds_{.max_batch_tokens = limits_.tokens,
                .max_texts = limits_.texts,
                .longest = limits_.longest,
                .vocab_size = config_.vocab},
        tower_{.hidden = config_.hidden,
               .heads = config_.heads,
               .head_dim = config_.head_dim,
               .intermediate = config_.intermediate,
               .activation = KindOf(config_.activation),
               .norm_epsilon = static_cast<float>(config_.norm_epsilon)},
        files_(std::move(files.files)),
        plan_(std::move(plan)) {
    facts_.vocab_size = config_.vocab;
    facts_.vector_size = config_.vector_size();
    facts_.max_positions = config_.max_tokens + 1;  // The answer counts as one token.
    facts_.kv_bytes_per_block = kBlockTokens * model::kQueuedTokenBytes;
    facts_.revision = std::move(files.revision);
  }

  absl::string_view kind() const override { return "encoder"; }
  DType type() const override { return type_; }
  const ModelFacts& facts() const override { return facts_; }
  const TextBounds& bounds() const override { return bounds_; }
  int32_t layers() const override { return config_.layers; }
  const float* vectors() const override { return vectors_; }

  int64_t WeightBytes() const override { return DeviceWeightBytes<DeviceEncoderWeights>(plan_, type_); }

  void TakeOnDevice(MemoryCursor* cursor) override {
    const int64_t state = classifies() ? int64_t{limits_.texts} * config_.hidden * model::BytesOf(type_) : 0;
    buffers_ = TakeTowerBuffers({{tower_, limits_}}, type_, /*other_scratch=*/0, cursor);
    first_ = cursor->TakeBytes(state);
    dense_ = cursor->TakeBytes(state);
    vectors_ = cursor->Take<float>(int64_t{limits_.texts} * config_.vector_size());
    on_device_ = TakeTextArrays(limits_, cursor);
  }
  void TakeOnHost(MemoryCursor* cursor) override { on_host_ = TakeTextArrays(limits_, cursor); }

  absl::Status Load(const UploadRoad& road) override {
    absl::StatusOr<DeviceEncoderWeights> weights = UploadWeights<DeviceEncoderWeights>(plan_, type_, road);
    if (!weights.ok()) return weights.status();
    weights_ = *std::move(weights);
    plan_ = {};
    files_.reset();
    absl::StatusOr<std::unique_ptr<EncoderLayers>> layers = EncoderLayers::Create(type_, buffers_);
    if (!layers.ok()) return layers.status();
    layers_ = *std::move(layers);
    return absl::OkStatus();
  }

  absl::Status Enqueue(const StepInput& step, cudaStream_t stream,
                       absl::FunctionRef<absl::Status()> after_layer) override {
    const TextShape shape = FillTexts(step, config_, limits_, on_host_);
    // One after the other on both sides, so one copy.
    TANDEM_RETURN_IF_ERROR(CopyToDevice(on_device_.tokens, on_host_.tokens, TextArrayBytes(limits_), stream));
    TANDEM_RETURN_IF_ERROR(Embedding(shape, stream));
    TANDEM_RETURN_IF_ERROR(
        layers_->Run(tower_, weights_.layers, shape, on_device_, limits_.table_stride(), stream, after_layer));
    if (classifies()) return Classify(shape, stream);
    return Pool({.states = buffers_.residual,
                 .token_begin = on_device_.token_begin,
                 .texts = shape.texts,
                 .hidden = config_.hidden,
                 .pooling = config_.pooling,
                 .normalize = config_.normalize,
                 .output = vectors_},
                stream);
  }

  void Finish(absl::Span<float> vectors) const override {
    if (!classifies() || !config_.sigmoid) return;
    for (float& value : vectors) value = 1.0f / (1.0f + std::exp(-value));
  }

 private:
  bool classifies() const { return config_.head == model::EncoderHead::kClassifier; }

  absl::Status Embedding(const TextShape& step, cudaStream_t stream) {
    TANDEM_RETURN_IF_ERROR(Embed({.tokens = on_device_.tokens,
                                  .count = step.tokens,
                                  .table = weights_.words.data,
                                  .type = type_,
                                  .rows = config_.vocab,
                                  .hidden = config_.hidden,
                                  .learned_positions = weights_.positions,
                                  .positions = on_device_.positions,
                                  .segment_table = weights_.types,
                                  .segments = on_device_.segments,
                                  .residual = buffers_.residual},
                                 stream));
    return layers_->NormInPlace(tower_, weights_.embedding_norm, step.tokens, stream);
  }

  // From each text's first token: dense, tanh, and one number per label.
  absl::Status Classify(const TextShape& step, cudaStream_t stream) {
    const int64_t hidden = config_.hidden;
    TANDEM_RETURN_IF_ERROR(GatherRows({.input = buffers_.normed,
                                       .row_index = on_device_.token_begin,
                                       .output = first_,
                                       .type = type_,
                                       .rows = step.texts,
                                       .columns = hidden},
                                      stream));
    TANDEM_RETURN_IF_ERROR(layers_->Product(weights_.head_dense, first_, step.texts, dense_, stream));
    TANDEM_RETURN_IF_ERROR(Activate({.kind = ActivationKind::kTanh,
                                     .gated = false,
                                     .input = dense_,
                                     .output = dense_,
                                     .type = type_,
                                     .rows = step.texts,
                                     .inner = hidden},
                                    stream));
    // By the kernel for a few rows: a product with one or two columns is none that cuBLASLt is made for. Where the
    // kernel does not take the width, cuBLASLt has all rows at once: those further on begin where it does not expect
    // it.
    const int64_t most = hidden % 8 == 0 ? kGemvMaxRows : step.texts;
    const int64_t element = model::BytesOf(type_);
    for (int64_t row = 0; row < step.texts; row += most) {
      TANDEM_RETURN_IF_ERROR(layers_->matmul().Run({.input = dense_ + row * hidden * element,
                                                    .input_stride = hidden,
                                                    .linear = &weights_.head_out,
                                                    .output = vectors_ + row * config_.labels,
                                                    .output_stride = config_.labels,
                                                    .output_type = DType::kFloat32,
                                                    .rows = std::min<int64_t>(most, step.texts - row)},
                                                   stream));
    }
    return absl::OkStatus();
  }

  const EncoderConfig config_;
  const DType type_;
  const TextLimits limits_;
  const TextBounds bounds_;
  const EncoderTower tower_;
  ModelFacts facts_;
  std::optional<model::WeightFiles> files_;  // until Load, as is:
  EncoderPlan plan_;
  DeviceEncoderWeights weights_;
  TowerBuffers buffers_;
  uint8_t* first_ = nullptr;  // of a classifier, half [texts][hidden]: the first tokens' states, and
  uint8_t* dense_ = nullptr;  // half [texts][hidden]
  float* vectors_ = nullptr;  // [texts][vector_size]
  TextArrays on_device_, on_host_;
  std::unique_ptr<EncoderLayers> layers_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceEncoder>> PlanCudaEncoder(const CudaExecutorOptions& options,
                                                               absl::string_view task) {
  absl::StatusOr<EncoderConfig> config = model::ReadEncoderConfig(options.folder, task);
  if (!config.ok()) return config.status();
  absl::StatusOr<EncoderFiles> files = EncoderFiles::Open(options, config->dtype);
  if (!files.ok()) return files.status();
  absl::StatusOr<EncoderPlan> plan = PlanEncoder(*config, files->files);
  if (!plan.ok()) return plan.status();
  return std::make_unique<CudaEncoder>(*std::move(config), options, *std::move(files), *std::move(plan));
}

}  // namespace tandem::worker::cuda
