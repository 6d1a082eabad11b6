#include "worker/exec/cpu_encoder.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/model/clip_config.h"
#include "base/model/encoder_config.h"
#include "base/model/encoder_memory.h"
#include "worker/exec/check_step.h"
#include "worker/exec/cpu_clip.h"
#include "worker/exec/cpu_encoder_parts.h"
#include "worker/exec/encoder.h"
#include "worker/model/encoder_weights.h"

namespace tandem::worker {
namespace {

using model::EncoderConfig;

// Raised when a change of the encoder or the kernels changes bits.
constexpr int kNumericsVersion = 1;
constexpr int32_t kMaxBatch = 1 << 20;

class CpuEncoder final : public CpuVectorExecutor<Encoder> {
 public:
  CpuEncoder(const ModelFacts& facts, std::string numerics_id, Encoder::Limits limits, std::unique_ptr<Encoder> encoder)
      : CpuVectorExecutor(facts, std::move(numerics_id), /*decoding=*/0, std::move(encoder)),
        bounds_{.max_batch_tokens = limits.max_batch_tokens,
                .max_texts = limits.max_sequences,
                .longest = facts.max_positions - 1,
                .vocab_size = facts.vocab_size} {}

 private:
  absl::Status Check(const StepInput& step) const override { return CheckTexts(step, bounds_); }

  const TextBounds bounds_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> LoadCpuEncoder(const CpuModelOptions& options, const std::string& task,
                                                         Communicator* communicator) {
  if (communicator->size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("an encoder runs on one rank, not on ", communicator->size(), "; set tensor_parallel: 1"));
  }
  if (options.threads < 1 || options.max_batch_tokens < 1 || options.max_batch_tokens > kMaxBatch ||
      options.max_sequences < 1 || options.max_sequences > kMaxBatch) {
    return absl::InvalidArgumentError(absl::StrCat("threads ", options.threads, ", max_batch_tokens ",
                                                   options.max_batch_tokens, ", max_sequences ",
                                                   options.max_sequences));
  }
  if (model::IsClipFolder(options.folder)) return LoadCpuClip(options, task);
  const absl::StatusOr<EncoderConfig> config = model::ReadEncoderConfig(options.folder, task);
  if (!config.ok()) return config.status();
  const absl::StatusOr<EncoderSource> source = EncoderSource::Open(options, config->dtype);
  if (!source.ok()) return source.status();
  if (absl::Status checked = CheckEncoderWeights(*config, source->files); !checked.ok()) return checked;

  const Encoder::Limits limits{model::EncoderBatchTokens(*config, options.max_batch_tokens), options.max_sequences};
  const int64_t arena_bytes =
      model::SizeEncoderArena(*config, limits.max_batch_tokens, limits.max_sequences).total_bytes;
  const int64_t weight_bytes = model::EncoderWeightBytes(*config, source->stored);
  if (absl::Status room = CheckRoom(options, weight_bytes, arena_bytes, /*decoding=*/0); !room.ok()) return room;
  absl::StatusOr<EncoderWeights> weights = LoadEncoderWeights(*config, source->files, source->stored);
  if (!weights.ok()) return weights.status();
  absl::StatusOr<MemoryArena> arena = MapResident(arena_bytes);
  if (!arena.ok()) return arena.status();

  ModelFacts facts;
  facts.vocab_size = config->vocab;
  facts.vector_size = config->vector_size();
  facts.max_positions = config->max_tokens + 1;  // The answer counts as one token.
  facts.kv_bytes_per_block = kBlockTokens * model::kQueuedTokenBytes;
  facts.revision = source->manifest.revision;
  auto encoder = std::make_unique<Encoder>(*config, limits, *std::move(weights), *std::move(arena), source->kernels,
                                           options.threads);
  return std::make_unique<CpuEncoder>(facts, source->NumericsId("encoder", kNumericsVersion), limits,
                                      std::move(encoder));
}

}  // namespace tandem::worker
