#include "worker/exec/cpu_executor.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/model/model_config.h"
#include "base/model/model_folder.h"
#include "base/model/model_memory.h"
#include "base/model/safetensors.h"
#include "worker/exec/check_step.h"
#include "worker/exec/cpu_isa.h"
#include "worker/exec/decoder.h"
#include "worker/exec/free_memory.h"
#include "worker/exec/kv_pool.h"
#include "worker/model/decoder_weights.h"
#include "worker/model/shard_plan.h"

namespace tandem::worker {
namespace {

using model::DecoderConfig;
using model::DType;

// Raised when a change of the kernels changes bits.
constexpr int kNumericsVersion = 1;
constexpr int kMaxThreads = 1024;

class CpuExecutor final : public Executor {
 public:
  CpuExecutor(ModelFacts facts, std::string numerics_id, Decoder::Limits limits, std::unique_ptr<Decoder> decoder,
              KvPool kv)
      : facts_(std::move(facts)),
        numerics_id_(std::move(numerics_id)),
        limits_(limits),
        decoder_(std::move(decoder)),
        kv_(std::move(kv)) {}

  const ModelFacts& facts() const override { return facts_; }
  const std::string& numerics_id() const override { return numerics_id_; }
  const std::atomic<uint64_t>& progress() const override { return progress_; }

  MemoryReport memory() const override {
    const DecoderWeights& weights = decoder_->weights();
    return {.weight_bytes = weights.vector_bytes,
            .packed_bytes = weights.packed_bytes,
            .activation_bytes = decoder_->arena_bytes(),
            .kv_bytes = kv_.bytes()};
  }

  // The pool is taken whole, pages and all: a system that is short of memory would rather kill than refuse, so what is
  // not there has to be refused here.
  absl::Status AllocateKv(int32_t num_blocks) override {
    if (num_blocks < 1) return absl::InvalidArgumentError(absl::StrCat("KV pool of ", num_blocks, " blocks"));
    const int64_t needed = num_blocks * kv_.bytes_per_block();
    const int64_t free = FreeMemoryBytes();
    if (needed > free) {
      return absl::ResourceExhaustedError(
          absl::StrCat("a KV pool of ", num_blocks, " blocks needs ", needed, " bytes, ", free, " are free"));
    }
    return kv_.Allocate(num_blocks);
  }

  absl::StatusOr<absl::Span<const float>> Run(const StepInput& step) override {
    const StepBounds bounds{.max_batch_tokens = limits_.max_batch_tokens,
                            .max_sequences = limits_.max_sequences,
                            .max_positions = facts_.max_positions,
                            .vocab_size = facts_.vocab_size,
                            .num_blocks = kv_.num_blocks()};
    if (absl::Status checked = CheckStep(step, bounds); !checked.ok()) return checked;
    return decoder_->Run(step, &kv_, &progress_);
  }

 private:
  const ModelFacts facts_;
  const std::string numerics_id_;
  const Decoder::Limits limits_;
  const std::unique_ptr<Decoder> decoder_;
  KvPool kv_;
  std::atomic<uint64_t> progress_{0};
};

absl::Status CheckOptions(const CpuModelOptions& options) {
  const auto wrong = [](absl::string_view name, int64_t value, int64_t highest) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is ", value, ", expected 1 to ", highest));
  };
  constexpr int32_t kMaxBatch = 1 << 20;
  if (options.threads < 1 || options.threads > kMaxThreads) return wrong("threads", options.threads, kMaxThreads);
  if (options.max_batch_tokens < 1 || options.max_batch_tokens > kMaxBatch) {
    return wrong("max_batch_tokens", options.max_batch_tokens, kMaxBatch);
  }
  if (options.max_sequences < 1 || options.max_sequences > kMaxBatch) {
    return wrong("max_sequences", options.max_sequences, kMaxBatch);
  }
  return absl::OkStatus();
}

// Where config.json is silent, the type that the embedding is stored in.
DType FileDType(const DecoderConfig& config, const ShardPlan& plan) {
  if (config.dtype.has_value()) return *config.dtype;
  return plan.embedding.parts.empty() ? DType::kFloat32 : plan.embedding.parts[0].dtype;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> LoadCpuModel(const CpuModelOptions& options, Communicator* communicator) {
  if (absl::Status checked = CheckOptions(options); !checked.ok()) return checked;
  const absl::StatusOr<const CpuKernels*> kernels = ChooseKernels(options.isa);
  if (!kernels.ok()) return kernels.status();
  const absl::StatusOr<DecoderConfig> config = model::ReadDecoderConfig(options.folder);
  if (!config.ok()) return config.status();
  const absl::StatusOr<model::WeightFiles> files = model::WeightFiles::Open(options.folder);
  if (!files.ok()) return files.status();
  const absl::StatusOr<model::Manifest> manifest = model::ReadManifest(options.folder);
  if (!manifest.ok()) return manifest.status();
  const absl::StatusOr<ShardPlan> plan = PlanShard(*config, *files, communicator->rank(), communicator->size());
  if (!plan.ok()) return plan.status();
  const absl::StatusOr<DType> stored = model::ChooseStoredDType(options.dtype, FileDType(*config, *plan));
  if (!stored.ok()) return stored.status();

  const int64_t weight_bytes = WeightBytes(*plan, *stored);
  const int64_t arena_bytes =
      model::SizeArena(*config, plan->shape, options.max_batch_tokens, options.max_sequences, communicator->rank() == 0)
          .total_bytes;
  const int64_t free = options.memory_limit_bytes > 0 ? options.memory_limit_bytes : FreeMemoryBytes();
  if (weight_bytes + arena_bytes > free) {
    return absl::ResourceExhaustedError(
        absl::StrCat("rank ", communicator->rank(), " needs ", weight_bytes + arena_bytes, " bytes (weights ",
                     weight_bytes, ", activations ", arena_bytes, ") before any KV, ", free, " are free"));
  }

  absl::StatusOr<DecoderWeights> weights = LoadDecoderWeights(*plan, *stored);
  if (!weights.ok()) return weights.status();
  absl::StatusOr<MemoryArena> arena = MemoryArena::Map(arena_bytes);
  if (!arena.ok()) return arena.status();
  if (absl::Status resident = arena->Reside(); !resident.ok()) return resident;
  KvPool kv(*config, plan->shape, *stored);

  ModelFacts facts;
  facts.vocab_size = config->vocab;
  facts.max_positions = config->max_positions;
  facts.eos_ids = config->eos_ids;
  facts.kv_bytes_per_block = kv.bytes_per_block();
  facts.revision = manifest->revision;
  const Decoder::Limits limits{options.max_batch_tokens, options.max_sequences};
  auto decoder = std::make_unique<Decoder>(*config, plan->shape, limits, *std::move(weights), *std::move(arena),
                                           *kernels, options.threads, communicator);
  const bool bf16 = *stored == DType::kBFloat16;
  std::string numerics_id = absl::StrCat("cpu/", bf16 ? (*kernels)->numerics_bf16 : (*kernels)->numerics_fp32, "/",
                                         bf16 ? "bf16" : "fp32", "/tp", communicator->size(), "/v", kNumericsVersion);
  return std::make_unique<CpuExecutor>(std::move(facts), std::move(numerics_id), limits, std::move(decoder),
                                       std::move(kv));
}

}  // namespace tandem::worker
