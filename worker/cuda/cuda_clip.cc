#include "worker/cuda/cuda_clip.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/model/clip_config.h"
#include "base/model/clip_memory.h"
#include "worker/cuda/check.h"
#include "worker/cuda/clip_batch.h"
#include "worker/cuda/encoder_device_weights.h"
#include "worker/cuda/encoder_layers.h"
#include "worker/cuda/ops/embedding.h"
#include "worker/cuda/ops/norm.h"
#include "worker/cuda/ops/patches.h"
#include "worker/cuda/ops/pool.h"
#include "worker/image/prepare_image.h"
#include "worker/model/clip_plan.h"

namespace tandem::worker::cuda {
namespace {

using model::ClipConfig;
using model::DType;

ActivationKind KindOf(model::ClipActivation activation) {
  switch (activation) {
    case model::ClipActivation::kQuickGelu:
      return ActivationKind::kQuickGelu;
    case model::ClipActivation::kGelu:
      return ActivationKind::kGeluErf;
    case model::ClipActivation::kGeluTanh:
      return ActivationKind::kGeluTanh;
  }
  return ActivationKind::kQuickGelu;
}

EncoderTower TowerOf(const model::ClipTower& tower, bool both_ways) {
  return {.hidden = tower.hidden,
          .heads = tower.heads,
          .head_dim = tower.head_dim,
          .intermediate = tower.intermediate,
          .activation = KindOf(tower.activation),
          .norm_epsilon = static_cast<float>(tower.norm_epsilon),
          .norms_first = true,
          .both_ways = both_ways};
}

class CudaClip final : public DeviceEncoder {
 public:
  CudaClip(ClipConfig config, const CudaExecutorOptions& options, EncoderFiles files, ClipPlan plan)
      : config_(std::move(config)),
        type_(files.type),
        sequences_(options.max_sequences),
        bounds_{.max_batch_tokens = model::ClipBatchTokens(config_, options.max_batch_tokens),
                .max_texts = sequences_,
                .longest = config_.text.positions,
                .vocab_size = config_.vocab,
                .image_tokens = config_.image_tokens(),
                .image_bytes = config_.image_bytes()},
        text_{.tower = TowerOf(config_.text, /*both_ways=*/false),
              .limits = ClipTextLimits(config_, bounds_.max_batch_tokens, sequences_)},
        image_{.tower = TowerOf(config_.image, /*both_ways=*/true),
               .limits = ClipImageLimits(config_, bounds_.max_batch_tokens, sequences_)},
        files_(std::move(files.files)),
        plan_(std::move(plan)) {
    facts_.vocab_size = config_.vocab;
    facts_.vector_size = config_.vector;
    facts_.image_tokens = config_.image_tokens();
    facts_.text_tokens = config_.text.positions;
    facts_.max_positions = config_.max_tokens() + 1;  // The answer counts as one token.
    facts_.kv_bytes_per_block = kBlockTokens * model::ClipQueuedTokenBytes(config_);
    facts_.revision = std::move(files.revision);
  }

  absl::string_view kind() const override { return "clip"; }
  DType type() const override { return type_; }
  const ModelFacts& facts() const override { return facts_; }
  const TextBounds& bounds() const override { return bounds_; }
  int32_t layers() const override { return config_.text.layers + config_.image.layers; }
  const float* vectors() const override { return vectors_; }

  int64_t WeightBytes() const override { return DeviceWeightBytes<DeviceClipWeights>(plan_, type_); }

  void TakeOnDevice(MemoryCursor* cursor) override {
    const int64_t patch_bytes = int64_t{image_.limits.tokens} * config_.patch_values() * model::BytesOf(type_);
    const int64_t projected_bytes = int64_t{sequences_} * config_.vector * static_cast<int64_t>(sizeof(float));
    buffers_ = TakeTowerBuffers({text_, image_}, type_, std::max(patch_bytes, projected_bytes), cursor);
    vectors_ = cursor->Take<float>(int64_t{sequences_} * config_.vector);
    texts_on_device_ = TakeClipArrays(text_.limits, /*image_bytes=*/0, cursor);
    images_on_device_ = TakeClipArrays(image_.limits, config_.image_bytes(), cursor);
  }
  void TakeOnHost(MemoryCursor* cursor) override {
    texts_on_host_ = TakeClipArrays(text_.limits, /*image_bytes=*/0, cursor);
    images_on_host_ = TakeClipArrays(image_.limits, config_.image_bytes(), cursor);
  }

  absl::Status Load(const UploadRoad& road) override {
    absl::StatusOr<DeviceClipWeights> weights = UploadWeights<DeviceClipWeights>(plan_, type_, road);
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
    const TextShape texts = FillClipTexts(step, config_, text_.limits, texts_on_host_);
    if (texts.texts > 0) TANDEM_RETURN_IF_ERROR(EnqueueTexts(texts, stream, after_layer));
    const TextShape images = FillClipImages(step, config_, image_.limits, images_on_host_);
    return images.texts > 0 ? EnqueueImages(images, stream, after_layer) : absl::OkStatus();
  }

  absl::StatusOr<std::vector<uint8_t>> ReadImage(absl::string_view file) const override {
    return ReadPixels(file, config_.preparation);
  }

 private:
  absl::Status EnqueueTexts(const TextShape& step, cudaStream_t stream, absl::FunctionRef<absl::Status()> after_layer) {
    const TextArrays& rows = texts_on_device_.rows;
    TANDEM_RETURN_IF_ERROR(CopyToDevice(rows.tokens, texts_on_host_.rows.tokens, ClipArrayBytes(text_.limits), stream));
    TANDEM_RETURN_IF_ERROR(EmbedRows(text_.tower, weights_.words, weights_.text, rows, step.tokens, stream));
    TANDEM_RETURN_IF_ERROR(
        layers_->Run(text_.tower, weights_.text.layers, step, rows, text_.limits.table_stride(), stream, after_layer));
    return Project(text_.tower, weights_.text, texts_on_device_, step.texts, stream);
  }

  absl::Status EnqueueImages(const TextShape& step, cudaStream_t stream,
                             absl::FunctionRef<absl::Status()> after_layer) {
    const TextArrays& rows = images_on_device_.rows;
    TANDEM_RETURN_IF_ERROR(
        CopyToDevice(rows.tokens, images_on_host_.rows.tokens, ClipArrayBytes(image_.limits), stream));
    TANDEM_RETURN_IF_ERROR(
        CopyToDevice(images_on_device_.pixels, images_on_host_.pixels, step.texts * config_.image_bytes(), stream));
    // A patch is a token that the table of one row does not have: its row is its position, until the product is added.
    TANDEM_RETURN_IF_ERROR(EmbedRows(image_.tower, weights_.class_token, weights_.image, rows, step.tokens, stream));
    TANDEM_RETURN_IF_ERROR(CutPatches({.pixels = images_on_device_.pixels,
                                       .images = step.texts,
                                       .side = config_.side,
                                       .patch = config_.patch,
                                       .colours = weights_.colours,
                                       .output = buffers_.scratch,
                                       .type = type_},
                                      stream));
    TANDEM_RETURN_IF_ERROR(
        layers_->AddToResidual(image_.tower, weights_.patches, buffers_.scratch, step.tokens, stream));
    TANDEM_RETURN_IF_ERROR(layers_->NormInPlace(image_.tower, weights_.first_norm, step.tokens, stream));
    TANDEM_RETURN_IF_ERROR(layers_->Run(image_.tower, weights_.image.layers, step, rows, image_.limits.table_stride(),
                                        stream, after_layer));
    return Project(image_.tower, weights_.image, images_on_device_, step.texts, stream);
  }

  absl::Status EmbedRows(const EncoderTower& tower, const DeviceMatrix& table, const DeviceClipTower& weights,
                         const TextArrays& rows, int64_t count, cudaStream_t stream) {
    return Embed({.tokens = rows.tokens,
                  .count = count,
                  .table = table.data,
                  .type = type_,
                  .rows = static_cast<int32_t>(table.columns),
                  .hidden = tower.hidden,
                  .learned_positions = weights.positions,
                  .positions = rows.positions,
                  .residual = buffers_.residual},
                 stream);
  }

  // The vectors of all items, each from the one row that stands for it.
  absl::Status Project(const EncoderTower& tower, const DeviceClipTower& weights, const ClipArrays& arrays,
                       int32_t items, cudaStream_t stream) {
    TANDEM_RETURN_IF_ERROR(AddNorm({.norm = model::Norm::kLayer,
                                    .residual = buffers_.residual,
                                    .weight = weights.last_norm.weight,
                                    .bias = weights.last_norm.bias,
                                    .epsilon = tower.norm_epsilon,
                                    .row_index = arrays.pooled,
                                    .output = buffers_.normed,
                                    .type = type_,
                                    .rows = items,
                                    .hidden = tower.hidden},
                                   stream));
    float* const projected = reinterpret_cast<float*>(buffers_.scratch);
    MatmulArgs product = ProductOf(weights.projection, buffers_.normed, items, projected, DType::kFloat32);
    TANDEM_RETURN_IF_ERROR(layers_->matmul().Run(product, stream));
    return Pool({.states = projected,
                 .texts = items,
                 .hidden = config_.vector,
                 .pooling = model::Pooling::kFirst,
                 .normalize = config_.normalize,
                 .places = arrays.places,
                 .output = vectors_},
                stream);
  }

  const ClipConfig config_;
  const DType type_;
  const int32_t sequences_;
  const TextBounds bounds_;
  const TowerRoom text_, image_;
  ModelFacts facts_;
  std::optional<model::WeightFiles> files_;  // until Load, as is:
  ClipPlan plan_;
  DeviceClipWeights weights_;
  TowerBuffers buffers_;
  float* vectors_ = nullptr;  // [sequences][vector]
  ClipArrays texts_on_device_, texts_on_host_;
  ClipArrays images_on_device_, images_on_host_;
  std::unique_ptr<EncoderLayers> layers_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceEncoder>> PlanCudaClip(const CudaExecutorOptions& options,
                                                            absl::string_view task) {
  absl::StatusOr<ClipConfig> config = model::ReadClipConfig(options.folder, task);
  if (!config.ok()) return config.status();
  absl::StatusOr<EncoderFiles> files = EncoderFiles::Open(options, config->dtype);
  if (!files.ok()) return files.status();
  absl::StatusOr<ClipPlan> plan = PlanClip(*config, files->files);
  if (!plan.ok()) return plan.status();
  return std::make_unique<CudaClip>(*std::move(config), options, *std::move(files), *std::move(plan));
}

}  // namespace tandem::worker::cuda
