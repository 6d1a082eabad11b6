#include "worker/exec/check_step.h"

#include "absl/strings/str_cat.h"

namespace tandem::worker {

absl::Status CheckStep(const StepInput& step, const StepBounds& bounds) {
  size_t tokens = 0;
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    const SequenceInput& sequence = step.sequences[i];
    const auto wrong = [&](absl::string_view what, int64_t value, int64_t limit) {
      return absl::InvalidArgumentError(absl::StrCat("step, sequence ", i, ": ", what, " ", value, ", limit ", limit));
    };
    if (sequence.tokens.empty()) return wrong("tokens", 0, 1);
    tokens += sequence.tokens.size();
    const int64_t end = sequence.start + static_cast<int64_t>(sequence.tokens.size());
    if (sequence.start < 0 || end > bounds.max_positions) return wrong("position", end, bounds.max_positions);
    const size_t blocks = static_cast<size_t>((end + kBlockTokens - 1) / kBlockTokens);
    if (sequence.blocks.size() < blocks) {
      return wrong("blocks", static_cast<int64_t>(sequence.blocks.size()), static_cast<int64_t>(blocks));
    }
    for (const TokenId token : sequence.tokens) {
      if (token < 0 || token >= bounds.vocab_size) return wrong("token id", token, bounds.vocab_size);
    }
    if (sequence.wanted.best < 0 || sequence.wanted.best > kMostBestTokens) {
      return wrong("best tokens", sequence.wanted.best, kMostBestTokens);
    }
    for (const BlockId block : sequence.blocks.first(blocks)) {
      if (block < 0 || block >= bounds.num_blocks) return wrong("block", block, bounds.num_blocks);
    }
  }
  if (tokens == 0 || tokens > static_cast<size_t>(bounds.max_batch_tokens) ||
      step.sequences.size() > static_cast<size_t>(bounds.max_sequences)) {
    return absl::InvalidArgumentError(absl::StrCat("step of ", tokens, " tokens in ", step.sequences.size(),
                                                   " sequences, loaded for ", bounds.max_batch_tokens, " in ",
                                                   bounds.max_sequences));
  }
  return absl::OkStatus();
}

absl::Status CheckTexts(const StepInput& step, const TextBounds& bounds) {
  size_t tokens = 0;
  for (size_t i = 0; i < step.sequences.size(); ++i) {
    const SequenceInput& sequence = step.sequences[i];
    const auto wrong = [&](absl::string_view what, int64_t value, int64_t limit) {
      return absl::InvalidArgumentError(absl::StrCat("step, input ", i, ": ", what, " ", value, ", limit ", limit));
    };
    const int64_t count = static_cast<int64_t>(sequence.tokens.size());
    tokens += sequence.tokens.size();
    if (sequence.start != 0) return wrong("start", sequence.start, 0);
    if (!sequence.sample) return wrong("a part of it, of tokens", count, count);
    if (!sequence.image.empty()) {
      const int64_t bytes = static_cast<int64_t>(sequence.image.size());
      if (count != bounds.image_tokens) return wrong("a picture's tokens", count, bounds.image_tokens);
      if (bytes != bounds.image_bytes) return wrong("a picture's bytes", bytes, bounds.image_bytes);
      continue;
    }
    if (count < 1 || count > bounds.longest) return wrong("tokens", count, bounds.longest);
    if (sequence.second_text_at < 0 || sequence.second_text_at > count) {
      return wrong("second text at", sequence.second_text_at, count);
    }
    for (const TokenId token : sequence.tokens) {
      if (token < 0 || token >= bounds.vocab_size) return wrong("token id", token, bounds.vocab_size);
    }
  }
  if (tokens == 0 || tokens > static_cast<size_t>(bounds.max_batch_tokens) ||
      step.sequences.size() > static_cast<size_t>(bounds.max_texts)) {
    return absl::InvalidArgumentError(absl::StrCat("step of ", tokens, " tokens in ", step.sequences.size(),
                                                   " inputs, loaded for ", bounds.max_batch_tokens, " in ",
                                                   bounds.max_texts));
  }
  return absl::OkStatus();
}

}  // namespace tandem::worker
