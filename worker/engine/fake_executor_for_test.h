// An executor whose next token is a hash chain over all tokens before it, read back from its "KV blocks" by block id.
//
// A wrong block table, a lost, doubled or crossed token, a block that was given to two sequences: each breaks every
// token that comes after it. Logits depend on the chain alone, so the reference is a few lines over the plain token
// list. Ranks compare their chains in every step, as real ranks meet in every layer.
#ifndef TANDEM_WORKER_ENGINE_FAKE_EXECUTOR_FOR_TEST_H_
#define TANDEM_WORKER_ENGINE_FAKE_EXECUTOR_FOR_TEST_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "worker/comm/communicator.h"
#include "worker/engine/request.h"
#include "worker/engine/sampler.h"
#include "worker/exec/executor.h"

namespace tandem::worker {

inline constexpr int kFakeVocab = 97;
inline constexpr TokenId kFakeEos = 96;

inline uint64_t ChainOn(uint64_t chain, TokenId token) {
  chain = (chain ^ static_cast<uint64_t>(token + 1)) * 0x9E3779B97F4A7C15;
  return chain ^ (chain >> 29);
}

// Between 0 and 8, without ties in practice. The end-of-sequence token is made rare.
inline void FakeLogits(uint64_t chain, float* logits) {
  for (int i = 0; i < kFakeVocab; ++i) {
    uint64_t mixed = ChainOn(chain, i) * 0xD6E8FEB86659FD93;
    logits[i] = static_cast<float>(mixed >> 40) * 0x1p-21f - (i == kFakeEos ? 0.3f : 0.0f);
  }
}

// What a request's whole output must be, stop token included, if nothing interferes.
inline std::vector<TokenId> FakeReference(const Request& request, int32_t max_model_len) {
  Sampler sampler;
  TokenCounts counts;
  uint64_t chain = 0;
  for (TokenId token : request.prompt) {
    chain = ChainOn(chain, token);
    counts.AddPrompt(token);
  }
  std::vector<TokenId> output;
  std::vector<float> logits(kFakeVocab);
  while (output.size() < request.max_tokens &&
         static_cast<int32_t>(request.prompt.size() + output.size()) < max_model_len) {
    FakeLogits(chain, logits.data());
    std::vector<TokenId> forbidden;
    if (output.size() < request.min_tokens) {
      forbidden = request.stop_token_ids;
      if (!request.ignore_eos) forbidden.push_back(kFakeEos);
    }
    TokenId token = sampler
                        .Sample({.logits = logits,
                                 .sampling = &request.sampling,
                                 .counts = &counts,
                                 .forbidden = forbidden,
                                 .index = output.size()})
                        .value()
                        .token;
    output.push_back(token);
    counts.AddOutput(token);
    chain = ChainOn(chain, token);
    if (token == kFakeEos && !request.ignore_eos) break;
  }
  return output;
}

class FakeExecutor final : public Executor {
 public:
  // `before_step` runs at the start of every Run, and may fail it. `communicator` may be null.
  explicit FakeExecutor(Communicator* communicator, std::function<absl::Status()> before_step = nullptr)
      : communicator_(communicator), before_step_(std::move(before_step)) {
    facts_.vocab_size = kFakeVocab;
    facts_.max_positions = 4096;
    facts_.eos_ids = {kFakeEos};
    facts_.kv_bytes_per_block = kBlockTokens * sizeof(TokenId);
    facts_.revision = "fake";
  }

  const ModelFacts& facts() const override { return facts_; }
  MemoryReport memory() const override { return {.kv_bytes = static_cast<int64_t>(kv_.size() * sizeof(TokenId))}; }
  const std::string& numerics_id() const override { return numerics_id_; }

  absl::Status AllocateKv(int32_t num_blocks) override {
    kv_.assign(static_cast<size_t>(num_blocks) * kBlockTokens, -1);
    return absl::OkStatus();
  }

  absl::StatusOr<absl::Span<const float>> Run(const StepInput& step) override {
    if (before_step_) {
      if (absl::Status status = before_step_(); !status.ok()) return status;
    }
    logits_.clear();
    uint64_t all = 0;
    for (const SequenceInput& sequence : step.sequences) {
      int32_t end = sequence.start + static_cast<int32_t>(sequence.tokens.size());
      for (int32_t at = sequence.start; at < end; ++at) Cell(sequence, at) = sequence.tokens[at - sequence.start];
      uint64_t chain = 0;
      for (int32_t at = 0; at < end; ++at) chain = ChainOn(chain, Cell(sequence, at));
      all = ChainOn(all ^ chain, end);
      if (!sequence.sample) continue;
      logits_.resize(logits_.size() + kFakeVocab);
      FakeLogits(chain, logits_.data() + logits_.size() - kFakeVocab);
      progress_.fetch_add(1);
    }
    if (communicator_ != nullptr) {
      float mine = static_cast<float>(all % 65536);
      float sum = mine;
      if (absl::Status status = communicator_->AllReduceSum(absl::MakeSpan(&sum, 1)); !status.ok()) return status;
      if (sum != mine * static_cast<float>(communicator_->size())) {
        return absl::InternalError(absl::StrCat("rank ", communicator_->rank(), " has another chain than its peers"));
      }
      if (communicator_->rank() != 0) return absl::Span<const float>();
    }
    return logits_;
  }

  const std::atomic<uint64_t>& progress() const override { return progress_; }

 private:
  TokenId& Cell(const SequenceInput& sequence, int32_t at) {
    return kv_.at(static_cast<size_t>(sequence.blocks[at / kBlockTokens]) * kBlockTokens + at % kBlockTokens);
  }

  Communicator* const communicator_;
  const std::function<absl::Status()> before_step_;
  ModelFacts facts_;
  const std::string numerics_id_ = "fake";
  std::vector<TokenId> kv_;
  std::vector<float> logits_;
  std::atomic<uint64_t> progress_{0};
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_FAKE_EXECUTOR_FOR_TEST_H_
