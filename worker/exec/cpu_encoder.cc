#include "worker/exec/cpu_encoder.h"

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/model/clip_config.h"
#include "base/model/encoder_config.h"
#include "base/model/encoder_memory.h"
#include "base/model/model_folder.h"
#include "base/model/model_memory.h"
#include "base/model/safetensors.h"
#include "worker/exec/check_step.h"
#include "worker/exec/cpu_clip.h"
#include "worker/exec/cpu_isa.h"
#include "worker/exec/encoder.h"
#include "worker/exec/free_memory.h"
#include "worker/model/encoder_weights.h"

namespace tandem::worker {
namespace {

using model::DType;
using model::EncoderConfig;

// Raised when a change of the encoder or the kernels changes bits.
constexpr int kNumericsVersion = 1;
constexpr int32_t kMaxBatch = 1 << 20;

class CpuEncoder final : public Executor {
 public:
  CpuEncoder(ModelFacts facts, std::string numerics_id, Encoder::Limits limits, std::unique_ptr<Encoder> encoder)
      : facts_(std::move(facts)), numerics_id_(std::move(numerics_id)), limits_(limits), encoder_(std::move(encoder)) {}

  const ModelFacts& facts() const override { return facts_; }
  const std::string& numerics_id() const override { return numerics_id_; }
  const std::atomic<uint64_t>& progress() const override { return progress_; }

  MemoryReport memory() const override {
    const EncoderWeights& weights = encoder_->weights();
    return {.weight_bytes = weights.vector_bytes,
            .packed_bytes = weights.packed_bytes,
            .activation_bytes = encoder_->arena_bytes(),
            .kv_bytes = queue_blocks_ * facts_.kv_bytes_per_block};
  }

  absl::Status AllocateKv(int32_t num_blocks) override {
    if (num_blocks < 1) return absl::InvalidArgumentError(absl::StrCat("a queue of ", num_blocks, " blocks"));
    queue_blocks_ = num_blocks;
    return absl::OkStatus();
  }

  absl::StatusOr<absl::Span<const float>> Run(const StepInput& step) override {
    const TextBounds bounds{.max_batch_tokens = limits_.max_batch_tokens,
                            .max_texts = limits_.max_sequences,
                            .longest = facts_.max_positions - 1,
                            .vocab_size = facts_.vocab_size};
    if (absl::Status checked = CheckTexts(step, bounds); !checked.ok()) return checked;
    return encoder_->Run(step, &progress_);
  }

 private:
  const ModelFacts facts_;
  const std::string numerics_id_;
  const Encoder::Limits limits_;
  const std::unique_ptr<Encoder> encoder_;
  int64_t queue_blocks_ = 0;
  std::atomic<uint64_t> progress_{0};
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
  const absl::StatusOr<const CpuKernels*> kernels = ChooseKernels(options.isa);
  if (!kernels.ok()) return kernels.status();
  const absl::StatusOr<EncoderConfig> config = model::ReadEncoderConfig(options.folder, task);
  if (!config.ok()) return config.status();
  const absl::StatusOr<model::WeightFiles> files = model::WeightFiles::Open(options.folder);
  if (!files.ok()) return files.status();
  const absl::StatusOr<model::Manifest> manifest = model::ReadManifest(options.folder);
  if (!manifest.ok()) return manifest.status();
  if (absl::Status checked = CheckEncoderWeights(*config, *files); !checked.ok()) return checked;
  const absl::StatusOr<DType> stored = model::ChooseStoredDType(options.dtype, config->dtype.value_or(DType::kFloat32));
  if (!stored.ok()) return stored.status();

  const Encoder::Limits limits{model::EncoderBatchTokens(*config, options.max_batch_tokens), options.max_sequences};
  const int64_t weight_bytes = model::EncoderWeightBytes(*config, *stored);
  const int64_t arena_bytes =
      model::SizeEncoderArena(*config, limits.max_batch_tokens, limits.max_sequences).total_bytes;
  const int64_t free = options.memory_limit_bytes > 0 ? options.memory_limit_bytes : FreeMemoryBytes();
  if (weight_bytes + arena_bytes > free) {
    return absl::ResourceExhaustedError(absl::StrCat("the encoder needs ", weight_bytes + arena_bytes,
                                                     " bytes (weights ", weight_bytes, ", activations ", arena_bytes,
                                                     "), ", free, " are free"));
  }
  absl::StatusOr<EncoderWeights> weights = LoadEncoderWeights(*config, *files, *stored);
  if (!weights.ok()) return weights.status();
  absl::StatusOr<MemoryArena> arena = MemoryArena::Map(arena_bytes);
  if (!arena.ok()) return arena.status();
  if (absl::Status resident = arena->Reside(); !resident.ok()) return resident;

  ModelFacts facts;
  facts.vocab_size = config->vocab;
  facts.vector_size = config->vector_size();
  facts.max_positions = config->max_tokens + 1;  // The answer counts as one token.
  facts.kv_bytes_per_block = kBlockTokens * model::kQueuedTokenBytes;
  facts.revision = manifest->revision;
  auto encoder =
      std::make_unique<Encoder>(*config, limits, *std::move(weights), *std::move(arena), *kernels, options.threads);
  const bool bf16 = *stored == DType::kBFloat16;
  std::string numerics_id = absl::StrCat("cpu/", bf16 ? (*kernels)->numerics_bf16 : (*kernels)->numerics_fp32, "/",
                                         bf16 ? "bf16" : "fp32", "/encoder/v", kNumericsVersion);
  return std::make_unique<CpuEncoder>(std::move(facts), std::move(numerics_id), limits, std::move(encoder));
}

}  // namespace tandem::worker
