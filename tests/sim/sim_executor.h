// A model whose next token is a hash chain over all tokens before it, kept in its "KV blocks" by block and offset.
//
// A lost, doubled, swapped or crossed token changes every later one, so a client can check each token as it comes. Each
// cell of a block remembers its position, the chain before it and the chain behind it: a block that is given to two
// sequences, or to the wrong one, breaks the links between blocks, which every step follows from the first token on.
#ifndef TANDEM_TESTS_SIM_SIM_EXECUTOR_H_
#define TANDEM_TESTS_SIM_SIM_EXECUTOR_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "worker/comm/communicator.h"
#include "worker/exec/executor.h"

namespace tandem::sim {

using worker::BlockId;
using worker::kBlockTokens;
using worker::TokenId;

inline constexpr int kVocab = 64;
inline constexpr TokenId kEos = 63;

inline uint64_t ChainOn(uint64_t chain, TokenId token) {
  chain = (chain ^ static_cast<uint64_t>(token + 1)) * 0x9E3779B97F4A7C15u;
  return chain ^ (chain >> 29);
}
// What comes after these tokens. One in 256 is the end.
inline TokenId NextToken(uint64_t chain) {
  const uint64_t mixed = (chain ^ (chain >> 31)) * 0xD6E8FEB86659FD93u;
  return (mixed >> 56) == 7 ? kEos : static_cast<TokenId>((mixed >> 32) % (kVocab - 1));
}

class SimExecutor final : public worker::Executor {
 public:
  struct Doors {
    std::function<absl::Status(int64_t tokens)> before_step;  // Spends the time that it takes; may fail.
    std::function<void(const std::string&)> broken;           // The KV cache is not what it was.
    int64_t* used_bytes;                                      // Of the device.
  };
  SimExecutor(worker::Communicator* communicator, int64_t bytes_per_block, int64_t static_bytes, int32_t positions,
              Doors doors)
      : communicator_(communicator), static_bytes_(static_bytes), doors_(std::move(doors)) {
    facts_.vocab_size = kVocab;
    facts_.max_positions = positions;
    facts_.eos_ids = {kEos};
    facts_.kv_bytes_per_block = bytes_per_block;
    facts_.revision = "sim";
    *doors_.used_bytes += static_bytes_;
  }
  ~SimExecutor() override { *doors_.used_bytes -= static_bytes_ + kv_bytes_; }

  const worker::ModelFacts& facts() const override { return facts_; }
  worker::MemoryReport memory() const override { return {.weight_bytes = static_bytes_, .kv_bytes = kv_bytes_}; }
  const std::string& numerics_id() const override { return numerics_id_; }

  absl::Status AllocateKv(int32_t num_blocks) override {
    cells_.resize(static_cast<size_t>(num_blocks) * kBlockTokens);
    kv_bytes_ = int64_t{num_blocks} * facts_.kv_bytes_per_block;
    *doors_.used_bytes += kv_bytes_;
    return absl::OkStatus();
  }

  absl::StatusOr<absl::Span<const float>> Run(const worker::StepInput& step) override {
    int64_t tokens = 0;
    for (const worker::SequenceInput& sequence : step.sequences) tokens += sequence.tokens.size();
    if (absl::Status status = doors_.before_step(tokens); !status.ok()) return status;
    logits_.clear();
    uint64_t all = 0;
    for (const worker::SequenceInput& sequence : step.sequences) {
      const uint64_t chain = Compute(sequence);
      all = ChainOn(all ^ chain, sequence.start);
      progress_.fetch_add(1);
      if (!sequence.sample) continue;
      logits_.resize(logits_.size() + kVocab, 0.0f);
      logits_[logits_.size() - kVocab + NextToken(chain)] = 1.0f;
    }
    if (communicator_->size() == 1) return logits_;
    float mine = static_cast<float>(all % 65536), sum = mine;
    if (absl::Status status = communicator_->AllReduceSum(absl::MakeSpan(&sum, 1)); !status.ok()) return status;
    if (sum != mine * static_cast<float>(communicator_->size())) {
      doors_.broken(absl::StrCat("rank ", communicator_->rank(), " computes something else than its peers"));
    }
    if (communicator_->rank() != 0) return absl::Span<const float>();
    return logits_;
  }

  const std::atomic<uint64_t>& progress() const override { return progress_; }

 private:
  struct Cell {
    int32_t position = -1;
    uint64_t before = 0, behind = 0;
  };
  Cell& At(const worker::SequenceInput& sequence, int32_t position) {
    return cells_.at(static_cast<size_t>(sequence.blocks[position / kBlockTokens]) * kBlockTokens +
                     position % kBlockTokens);
  }

  // Returns the chain behind the last token.
  uint64_t Compute(const worker::SequenceInput& sequence) {
    uint64_t chain = 0;
    for (int32_t at = 0; at < sequence.start;) {
      const Cell& first = At(sequence, at);
      const int32_t end = std::min(sequence.start, (at / kBlockTokens + 1) * kBlockTokens);
      const Cell& last = At(sequence, end - 1);
      if (first.position != at || first.before != chain || last.position != end - 1) {
        doors_.broken(absl::StrCat("KV block ", sequence.blocks[at / kBlockTokens], " holds position ", first.position,
                                   " to ", last.position, " of another sequence than position ", at, " to ", end - 1,
                                   " of this one"));
      }
      chain = last.behind;
      at = end;
    }
    for (size_t i = 0; i < sequence.tokens.size(); ++i) {
      Cell& cell = At(sequence, sequence.start + static_cast<int32_t>(i));
      cell.position = sequence.start + static_cast<int32_t>(i);
      cell.before = chain;
      chain = cell.behind = ChainOn(chain, sequence.tokens[i]);
    }
    return chain;
  }

  worker::Communicator* const communicator_;
  const int64_t static_bytes_;
  const Doors doors_;
  worker::ModelFacts facts_;
  const std::string numerics_id_ = "sim";
  int64_t kv_bytes_ = 0;
  std::vector<Cell> cells_;
  std::vector<float> logits_;
  std::atomic<uint64_t> progress_{0};
};

}  // namespace tandem::sim

#endif  // TANDEM_TESTS_SIM_SIM_EXECUTOR_H_
