#include "worker/exec/cpu_clip.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/model/clip_config.h"
#include "base/model/clip_memory.h"
#include "base/model/image_limits.h"
#include "worker/exec/clip_encoder.h"
#include "worker/exec/cpu_encoder_parts.h"
#include "worker/image/image_file.h"
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
        config_(config),
        limits_(limits) {}

  absl::StatusOr<std::vector<uint8_t>> ReadImage(absl::string_view file) const override {
    absl::StatusOr<RgbImage> image = DecodeImage(file);
    if (!image.ok()) return image.status();
    return PrepareImage(*image, config_.preparation).pixels;
  }

 private:
  absl::Status CheckSequence(size_t index, const SequenceInput& sequence) const {
    const auto wrong = [&](absl::string_view what, int64_t value, int64_t limit) {
      return absl::InvalidArgumentError(absl::StrCat("step, input ", index, ": ", what, " ", value, ", limit ", limit));
    };
    const int64_t count = static_cast<int64_t>(sequence.tokens.size());
    if (sequence.start != 0) return wrong("start", sequence.start, 0);
    if (!sequence.sample) return wrong("a part of it, of tokens", count, count);
    if (!sequence.image.empty()) {
      if (count != facts().image_tokens) return wrong("a picture's tokens", count, facts().image_tokens);
      const int64_t bytes = static_cast<int64_t>(sequence.image.size());
      return bytes == config_.image_bytes() ? absl::OkStatus()
                                            : wrong("a picture's bytes", bytes, config_.image_bytes());
    }
    if (count < 1 || count > config_.text.positions) return wrong("tokens", count, config_.text.positions);
    for (const TokenId token : sequence.tokens) {
      if (token < 0 || token >= facts().vocab_size) return wrong("token id", token, facts().vocab_size);
    }
    return absl::OkStatus();
  }

  absl::Status Check(const StepInput& step) const override {
    size_t tokens = 0;
    for (size_t i = 0; i < step.sequences.size(); ++i) {
      tokens += step.sequences[i].tokens.size();
      if (absl::Status checked = CheckSequence(i, step.sequences[i]); !checked.ok()) return checked;
    }
    if (tokens == 0 || tokens > static_cast<size_t>(limits_.max_batch_tokens) ||
        step.sequences.size() > static_cast<size_t>(limits_.max_sequences)) {
      return absl::InvalidArgumentError(absl::StrCat("step of ", tokens, " tokens in ", step.sequences.size(),
                                                     " inputs, loaded for ", limits_.max_batch_tokens, " in ",
                                                     limits_.max_sequences));
    }
    return absl::OkStatus();
  }

  const ClipConfig config_;
  const ClipEncoder::Limits limits_;
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
