#include "worker/exec/cpu_clip.h"

#include <atomic>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/model/clip_config.h"
#include "base/model/clip_memory.h"
#include "base/model/image_limits.h"
#include "base/model/model_folder.h"
#include "base/model/model_memory.h"
#include "base/model/safetensors.h"
#include "worker/exec/clip_encoder.h"
#include "worker/exec/cpu_isa.h"
#include "worker/exec/free_memory.h"
#include "worker/image/image_file.h"
#include "worker/image/prepare_image.h"
#include "worker/model/clip_weights.h"

namespace tandem::worker {
namespace {

using model::ClipConfig;
using model::DType;

// Raised when a change of the encoder or the kernels changes bits.
constexpr int kNumericsVersion = 1;

class CpuClip final : public Executor {
 public:
  CpuClip(const ClipConfig& config, ModelFacts facts, std::string numerics_id, ClipEncoder::Limits limits,
          std::unique_ptr<ClipEncoder> encoder)
      : config_(config),
        facts_(std::move(facts)),
        numerics_id_(std::move(numerics_id)),
        limits_(limits),
        encoder_(std::move(encoder)) {}

  const ModelFacts& facts() const override { return facts_; }
  const std::string& numerics_id() const override { return numerics_id_; }
  const std::atomic<uint64_t>& progress() const override { return progress_; }

  MemoryReport memory() const override {
    const ClipWeights& weights = encoder_->weights();
    return {.weight_bytes = weights.vector_bytes,
            .packed_bytes = weights.packed_bytes,
            .activation_bytes = encoder_->arena_bytes() + model::kImageDecodeBytes,
            .kv_bytes = queue_blocks_ * facts_.kv_bytes_per_block};
  }

  absl::Status AllocateKv(int32_t num_blocks) override {
    if (num_blocks < 1) return absl::InvalidArgumentError(absl::StrCat("a queue of ", num_blocks, " blocks"));
    queue_blocks_ = num_blocks;
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<uint8_t>> ReadImage(absl::string_view file) const override {
    absl::StatusOr<RgbImage> image = DecodeImage(file);
    if (!image.ok()) return image.status();
    return PrepareImage(*image, config_.preparation).pixels;
  }

  absl::StatusOr<absl::Span<const float>> Run(const StepInput& step) override {
    if (absl::Status checked = Check(step); !checked.ok()) return checked;
    return encoder_->Run(step, &progress_);
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
      if (count != facts_.image_tokens) return wrong("a picture's tokens", count, facts_.image_tokens);
      const int64_t bytes = static_cast<int64_t>(sequence.image.size());
      return bytes == config_.image_bytes() ? absl::OkStatus()
                                            : wrong("a picture's bytes", bytes, config_.image_bytes());
    }
    if (count < 1 || count > config_.text.positions) return wrong("tokens", count, config_.text.positions);
    for (const TokenId token : sequence.tokens) {
      if (token < 0 || token >= facts_.vocab_size) return wrong("token id", token, facts_.vocab_size);
    }
    return absl::OkStatus();
  }

  absl::Status Check(const StepInput& step) const {
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
  const ModelFacts facts_;
  const std::string numerics_id_;
  const ClipEncoder::Limits limits_;
  const std::unique_ptr<ClipEncoder> encoder_;
  int64_t queue_blocks_ = 0;
  std::atomic<uint64_t> progress_{0};
};

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> LoadCpuClip(const CpuModelOptions& options, const std::string& task) {
  const absl::StatusOr<const CpuKernels*> kernels = ChooseKernels(options.isa);
  if (!kernels.ok()) return kernels.status();
  const absl::StatusOr<ClipConfig> config = model::ReadClipConfig(options.folder, task);
  if (!config.ok()) return config.status();
  const absl::StatusOr<model::WeightFiles> files = model::WeightFiles::Open(options.folder);
  if (!files.ok()) return files.status();
  const absl::StatusOr<model::Manifest> manifest = model::ReadManifest(options.folder);
  if (!manifest.ok()) return manifest.status();
  if (absl::Status checked = CheckClipWeights(*config, *files); !checked.ok()) return checked;
  const absl::StatusOr<DType> stored = model::ChooseStoredDType(options.dtype, config->dtype.value_or(DType::kFloat32));
  if (!stored.ok()) return stored.status();

  const ClipEncoder::Limits limits{model::ClipBatchTokens(*config, options.max_batch_tokens), options.max_sequences};
  const int64_t weight_bytes = model::ClipWeightBytes(*config, *stored);
  const int64_t arena_bytes = model::SizeClipArena(*config, limits.max_batch_tokens, limits.max_sequences).total_bytes;
  const int64_t needed = weight_bytes + arena_bytes + model::kImageDecodeBytes;
  const int64_t free = options.memory_limit_bytes > 0 ? options.memory_limit_bytes : FreeMemoryBytes();
  if (needed > free) {
    return absl::ResourceExhaustedError(absl::StrCat("the encoder needs ", needed, " bytes (weights ", weight_bytes,
                                                     ", activations ", arena_bytes, ", decoding of pictures ",
                                                     model::kImageDecodeBytes, "), ", free, " are free"));
  }
  absl::StatusOr<ClipWeights> weights = LoadClipWeights(*config, *files, *stored);
  if (!weights.ok()) return weights.status();
  absl::StatusOr<MemoryArena> arena = MemoryArena::Map(arena_bytes);
  if (!arena.ok()) return arena.status();
  if (absl::Status resident = arena->Reside(); !resident.ok()) return resident;

  ModelFacts facts;
  facts.vocab_size = config->vocab;
  facts.vector_size = config->vector;
  facts.image_tokens = config->image_tokens();
  facts.text_tokens = config->text.positions;
  facts.max_positions = config->max_tokens() + 1;  // The answer counts as one token.
  facts.kv_bytes_per_block = kBlockTokens * model::ClipQueuedTokenBytes(*config);
  facts.revision = manifest->revision;
  auto encoder =
      std::make_unique<ClipEncoder>(*config, limits, *std::move(weights), *std::move(arena), *kernels, options.threads);
  const bool bf16 = *stored == DType::kBFloat16;
  std::string numerics_id = absl::StrCat("cpu/", bf16 ? (*kernels)->numerics_bf16 : (*kernels)->numerics_fp32, "/",
                                         bf16 ? "bf16" : "fp32", "/clip/v", kNumericsVersion);
  return std::make_unique<CpuClip>(*config, std::move(facts), std::move(numerics_id), limits, std::move(encoder));
}

}  // namespace tandem::worker
