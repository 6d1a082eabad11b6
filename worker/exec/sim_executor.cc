#include "worker/exec/sim_executor.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/model/model_config.h"
#include "base/model/model_folder.h"
#include "base/model/model_memory.h"
#include "placement/planner/step_model.h"
#include "worker/exec/hash_chain.h"

namespace tandem::worker {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;

// The longest that an abort, or the end of a fault, waits for a sleeping engine.
constexpr nanoseconds kPiece = std::chrono::milliseconds(5);
constexpr int kSlowFactor = 10;
constexpr nanoseconds kSlowLeast = std::chrono::milliseconds(10);
constexpr float kLogit = 100;
// Ranks compare 60 bits of their chains in three floats, whose sums over 16 ranks are exact.
constexpr int kDigestBits = 20;
constexpr int kDigestFloats = 3;

// Time that passes on the engine's thread as if a device computed.
class Pace {
 public:
  Pace(double speedup, const SimFaults* faults, const Communicator* communicator)
      : speedup_(speedup), faults_(*faults), communicator_(*communicator) {}

  // Raises `progress` by `layers` in the meantime. An error once the group is spent.
  absl::Status Pass(int64_t device_ns, int layers, std::atomic<uint64_t>* progress) const {
    nanoseconds whole(speedup_ > 0 ? static_cast<int64_t>(static_cast<double>(device_ns) / speedup_) : 0);
    if (faults_.slow) whole = std::max(whole * kSlowFactor, kSlowLeast);
    const uint64_t before = progress->load();
    const Clock::time_point begin = Clock::now();
    while (true) {
      if (absl::Status health = communicator_.Health(); !health.ok()) return health;
      const nanoseconds passed = Clock::now() - begin;
      const bool stuck = faults_.stuck;
      if (passed >= whole && !stuck) break;
      if (!stuck) progress->store(before + static_cast<uint64_t>(layers * passed.count() / whole.count()));
      std::this_thread::sleep_for(stuck ? kPiece : std::min(kPiece, whole - passed));
    }
    progress->store(before + static_cast<uint64_t>(layers));
    return absl::OkStatus();
  }

 private:
  const double speedup_;
  const SimFaults& faults_;
  const Communicator& communicator_;
};

// The ring of cards that meet over PCIe, as the scheduler takes simulated devices to be.
placement::Ring PcieRing(const placement::Chip& chip, int ranks) {
  placement::Ring ring;
  ring.order.resize(static_cast<size_t>(ranks));
  std::iota(ring.order.begin(), ring.order.end(), 0);
  ring.mbps = chip.pcie_mbps;
  ring.hop = placement::HopClass::kPci;
  return ring;
}

class SimExecutor final : public Executor {
 public:
  struct Model {
    ModelFacts facts;
    std::string numerics_id;
    MemoryReport memory;
    placement::ModelWork work;
  };

  SimExecutor(Model model, const SimModelOptions& options, Pace pace, Communicator* communicator)
      : model_(std::move(model)),
        chip_(*options.chip),
        memory_(*options.memory),
        pace_(pace),
        communicator_(*communicator),
        ring_(PcieRing(chip_, communicator->size())),
        fixed_bytes_(model_.memory.packed_bytes + model_.memory.activation_bytes) {
    memory_.Take(fixed_bytes_);
  }
  ~SimExecutor() override { memory_.GiveBack(fixed_bytes_ + model_.memory.kv_bytes); }

  const ModelFacts& facts() const override { return model_.facts; }
  MemoryReport memory() const override { return model_.memory; }
  const std::string& numerics_id() const override { return model_.numerics_id; }
  const std::atomic<uint64_t>& progress() const override { return progress_; }

  absl::Status AllocateKv(int32_t num_blocks) override {
    // Zero pages that nobody touches are not held.
    const size_t tokens = static_cast<size_t>(num_blocks) * kBlockTokens;
    chains_.reset(static_cast<uint64_t*>(std::calloc(tokens, sizeof(uint64_t))));
    if (chains_ == nullptr) return absl::ResourceExhaustedError(absl::StrCat("no room for ", tokens, " hashes"));
    model_.memory.kv_bytes = num_blocks * model_.facts.kv_bytes_per_block;
    memory_.Take(model_.memory.kv_bytes);
    return absl::OkStatus();
  }

  absl::StatusOr<absl::Span<const float>> Run(const StepInput& step) override {
    for (const size_t hot : hot_) logits_[hot] = 0;
    hot_.clear();
    const size_t vocabulary = static_cast<size_t>(model_.facts.vocab_size);
    const bool samples = communicator_.rank() == 0;
    uint64_t digest = kChainStart;
    placement::StepShape shape;
    for (const SequenceInput& sequence : step.sequences) {
      const uint64_t chain = Extend(sequence);
      digest = NextChain(digest, sequence.start, static_cast<int32_t>(chain));
      Count(sequence, shape);
      if (!samples || !sequence.sample) continue;
      const size_t row = hot_.size();
      if (logits_.size() < (row + 1) * vocabulary) logits_.resize((row + 1) * vocabulary);
      hot_.push_back(row * vocabulary +
                     static_cast<size_t>(TokenOfChain(chain, model_.facts.vocab_size, model_.facts.eos_ids)));
      logits_[hot_.back()] = kLogit;
    }
    if (shape.decodes > 0) shape.context /= shape.decodes;
    const placement::StepGroup group{.chip = &chip_, .ranks = communicator_.size(), .ring = &ring_};
    const int64_t step_ns = placement::StepNs(model_.work, group, shape);
    if (absl::Status passed = pace_.Pass(step_ns, model_.work.layers, &progress_); !passed.ok()) return passed;
    if (absl::Status agreed = Agree(digest); !agreed.ok()) return agreed;
    return absl::MakeConstSpan(logits_).first(hot_.size() * vocabulary);
  }

 private:
  struct Free {
    void operator()(uint64_t* memory) const { std::free(memory); }
  };

  uint64_t& ChainAt(const SequenceInput& sequence, int64_t position) {
    const auto block = static_cast<size_t>(sequence.blocks[static_cast<size_t>(position / kBlockTokens)]);
    return chains_[block * kBlockTokens + static_cast<size_t>(position % kBlockTokens)];
  }

  // The chain after the sequence's last token; what comes before its first is read back from the blocks.
  uint64_t Extend(const SequenceInput& sequence) {
    int64_t position = sequence.start;
    uint64_t chain = position == 0 ? kChainStart : ChainAt(sequence, position - 1);
    for (const TokenId token : sequence.tokens) {
      chain = NextChain(chain, position, token);
      ChainAt(sequence, position++) = chain;
    }
    return chain;
  }

  // `context` is the sum over the decodes until all are counted.
  static void Count(const SequenceInput& sequence, placement::StepShape& shape) {
    const auto tokens = static_cast<int64_t>(sequence.tokens.size());
    if (tokens == 1) {
      ++shape.decodes;
      shape.context += sequence.start;
    } else {
      if (shape.prefill_tokens > 0) ++shape.prompts;
      shape.prefill_tokens += tokens;
      shape.prefill_context += sequence.start;
    }
  }

  absl::Status Agree(uint64_t digest) {
    float parts[kDigestFloats];
    for (int i = 0; i < kDigestFloats; ++i) {
      parts[i] = static_cast<float>(digest >> (i * kDigestBits) & ((1 << kDigestBits) - 1));
    }
    float sums[kDigestFloats];
    std::copy(std::begin(parts), std::end(parts), sums);
    if (absl::Status summed = communicator_.AllReduceSum(absl::MakeSpan(sums)); !summed.ok()) return summed;
    for (int i = 0; i < kDigestFloats; ++i) {
      if (sums[i] == parts[i] * static_cast<float>(communicator_.size())) continue;
      return absl::InternalError(absl::StrCat("rank ", communicator_.rank(), " has another chain than its peers"));
    }
    return absl::OkStatus();
  }

  Model model_;
  const placement::Chip& chip_;
  SimMemory& memory_;
  const Pace pace_;
  Communicator& communicator_;
  const placement::Ring ring_;
  const int64_t fixed_bytes_;
  std::unique_ptr<uint64_t[], Free> chains_;  // [block][kBlockTokens]: the chain after the token there
  std::vector<float> logits_;                 // rows that were ever needed; zero but at hot_
  std::vector<size_t> hot_;                   // one for each row of the last step
  std::atomic<uint64_t> progress_{0};
};

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> LoadSimModel(const SimModelOptions& options, Communicator* communicator) {
  const absl::StatusOr<model::DecoderConfig> config = model::ReadDecoderConfig(options.folder);
  if (!config.ok()) return config.status();
  const absl::StatusOr<model::Manifest> manifest = model::ReadManifest(options.folder);
  if (!manifest.ok()) return manifest.status();
  const absl::StatusOr<model::DType> stored =
      model::ChooseStoredDType(options.dtype, config->dtype.value_or(model::DType::kFloat32));
  if (!stored.ok()) return stored.status();
  const int ranks = communicator->size();
  model::MemoryQuery query{.ranks = ranks,
                           .stored_dtype = *stored,
                           .max_batch_tokens = options.max_batch_tokens,
                           .max_sequences = options.max_sequences,
                           .first_rank = communicator->rank() == 0};
  const absl::StatusOr<model::RankMemory> rank = model::MemoryOfRank(*config, query);
  if (!rank.ok()) return rank.status();
  const int64_t needed = rank->weight_bytes + rank->activation_bytes;
  if (needed > options.memory_limit_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "rank ", communicator->rank(), " needs ", needed, " bytes (weights ", rank->weight_bytes, ", activations ",
        rank->activation_bytes, ") before any KV, ", options.memory_limit_bytes, " are free"));
  }
  query.ranks = 1;
  query.first_rank = true;
  const absl::StatusOr<model::RankMemory> whole = model::MemoryOfRank(*config, query);
  if (!whole.ok()) return whole.status();

  SimExecutor::Model model;
  model.facts = {.vocab_size = config->vocab,
                 .max_positions = config->max_positions,
                 .eos_ids = config->eos_ids,
                 .kv_bytes_per_block = rank->kv_bytes_per_token * kBlockTokens,
                 .revision = manifest->revision};
  const absl::Span<const TokenId> eos = config->eos_ids;
  if (static_cast<size_t>(config->vocab) <= eos.size()) {
    return absl::InvalidArgumentError(absl::StrCat("a vocabulary of ", config->vocab, " with ", eos.size(),
                                                   " end-of-sequence ids leaves a simulated device nothing to say"));
  }
  model.numerics_id = absl::StrCat("sim/", options.chip->name, "/tp", ranks);
  model.memory = {.packed_bytes = rank->weight_bytes, .activation_bytes = rank->activation_bytes};
  const int64_t element = model::BytesOf(*stored);
  const int64_t table = int64_t{config->vocab} * config->hidden;
  model.work = {.layers = config->layers,
                .hidden = config->hidden,
                .element_bytes = static_cast<int>(element),
                .parameters = whole->weight_bytes / element - (config->tied_embeddings ? 0 : table),
                .head_parameters = table,
                .weight_bytes = whole->weight_bytes,
                .kv_bytes_per_token = whole->kv_bytes_per_token};

  const Pace pace(options.speedup, options.faults, communicator);
  std::atomic<uint64_t> progress{0};
  // MB/s are bytes per microsecond.
  const int64_t load_ns = rank->weight_bytes * 1000 / options.chip->pcie_mbps;
  if (absl::Status passed = pace.Pass(load_ns, config->layers, &progress); !passed.ok()) return passed;
  return std::make_unique<SimExecutor>(std::move(model), options, pace, communicator);
}

}  // namespace tandem::worker
