#include "worker/exec/cpu_clip.h"

#include <utility>
#include <vector>

#include "base/model/clip_config.h"
#include "base/model/clip_memory.h"
#include "base/model/image_limits.h"
#include "worker/exec/check_step.h"
#include "worker/exec/clip_encoder.h"
#include "worker/exec/cpu_encoder_parts.h"
#include "worker/image/prepare_image.h"
#include "worker/model/clip_weights.h"

namespace tandem::worker {
namespace {

using model::ClipConfig;

// Raised when a change of the encoder or the kernels changes bits.
constexpr int kNumericsVersion = 1;

class CpuClip final : public CpuVectorExecutor<ClipEncoder> {
 public:
  CpuClip(const ClipConfig& config, const ModelFacts& facts, std::string numerics_id, ClipEncoder::Limits limits,
          std::unique_ptr<ClipEncoder> encoder)
      : CpuVectorExecutor(facts, std::move(numerics_id), model::kImageDecodeBytes, std::move(encoder)),
        preparation_(config.preparation),
        bounds_{.max_batch_tokens = limits.max_batch_tokens,
                .max_texts = limits.max_sequences,
                .longest = config.text.positions,
                .vocab_size = config.vocab,
                .image_tokens = config.image_tokens(),
                .image_bytes = config.image_bytes()} {}

  absl::StatusOr<std::vector<uint8_t>> ReadImage(absl::string_view file) const override {
    return ReadPixels(file, preparation_);
  }

 private:
  absl::Status Check(const StepInput& step) const override { return CheckTexts(step, bounds_); }

  const model::ImagePreparation preparation_;
  const TextBounds bounds_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> LoadCpuClip(const CpuModelOptions& options, const std::string& task) {
  const absl::StatusOr<ClipConfig> config = model::ReadClipConfig(options.folder, task);
  if (!config.ok()) return config.status();
  const absl::StatusOr<EncoderSource> source = EncoderSource::Open(options, config->dtype);
  if (!source.ok()) return source.status();
  if (absl::Status checked = CheckClipWeights(*config, source->files); !checked.ok()) return checked;

  const ClipEncoder::Limits limits{model::ClipBatchTokens(*config, options.max_batch_tokens), options.max_sequences};
  const int64_t weight_bytes = model::ClipWeightBytes(*config, source->stored);
  const int64_t arena_bytes = model::SizeClipArena(*config, limits.max_batch_tokens, limits.max_sequences).total_bytes;
  if (absl::Status room = CheckRoom(options, weight_bytes, arena_bytes, model::kImageDecodeBytes); !room.ok())
    return room;
  absl::StatusOr<ClipWeights> weights = LoadClipWeights(*config, source->files, source->stored);
  if (!weights.ok()) return weights.status();
  absl::StatusOr<MemoryArena> arena = MapResident(arena_bytes);
  if (!arena.ok()) return arena.status();

  ModelFacts facts;
  facts.vocab_size = config->vocab;
  facts.vector_size = config->vector;
  facts.image_tokens = config->image_tokens();
  facts.text_tokens = config->text.positions;
  facts.max_positions = config->max_tokens() + 1;  // The answer counts as one token.
  facts.kv_bytes_per_block = kBlockTokens * model::ClipQueuedTokenBytes(*config);
  facts.revision = source->manifest.revision;
  auto encoder = std::make_unique<ClipEncoder>(*config, limits, *std::move(weights), *std::move(arena), source->kernels,
                                               options.threads);
  return std::make_unique<CpuClip>(*config, facts, source->NumericsId("clip", kNumericsVersion), limits,
                                   std::move(encoder));
}

}  // namespace tandem::worker
