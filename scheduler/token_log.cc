#include "scheduler/token_log.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "base/plant.h"

namespace tandem::scheduler {
namespace {

// A client that fell behind gets its tokens in pieces that any gRPC library takes (their receive limit is 4 MiB).
constexpr size_t kMostTokensPerChunk = 4096;
constexpr size_t kMostTokensPerChunkWithLogprobs = 256;  // up to 21 pairs each

// Alternatives repeat from token to token, so each id is spelled once.
void AddTokenTexts(const tokenizer::Tokenizer& tokenizer, v1::Chunk* chunk) {
  absl::flat_hash_set<uint32_t> spelled;
  const auto spell = [&](uint32_t id) {
    if (!spelled.insert(id).second) return;
    const absl::string_view text = tokenizer.TokenBytes(static_cast<int32_t>(id));
    v1::TokenText& out = *chunk->add_token_texts();
    out.set_token_id(id);
    out.set_text(text.data(), text.size());
  };
  for (const v1::PositionLogprobs& position : chunk->logprobs()) {
    spell(position.chosen().token_id());
    for (const v1::TokenLogprob& token : position.top()) spell(token.token_id());
  }
}

}  // namespace

TokenLog::TokenLog(Shape shape)
    : shape_(std::move(shape)), text_(shape_.tokenizer, shape_.stop, shape_.continues_text) {}

std::optional<size_t> TokenLog::Recall(absl::Span<const uint32_t> ids) {
  std::optional<size_t> stop;
  for (size_t i = 0; i < ids.size() && !stop; ++i) {
    ids_.push_back(ids[i]);
    stop = text_.Append(ids[i]);
  }
  if (shape_.logprobs) logprobs_.resize(ids_.size());
  return stop;
}

absl::StatusOr<std::optional<size_t>> TokenLog::Append(const v1::Produced& produced, uint32_t most) {
  const size_t first = produced.first_index();
  if (first > ids_.size()) {
    return absl::DataLossError(absl::StrFormat("tokens %d to %d are missing", ids_.size(), first - 1));
  }
  const auto& ids = produced.token_ids();
  if (shape_.logprobs && produced.logprobs_size() != ids.size()) {
    return absl::DataLossError(
        absl::StrFormat("%d tokens came with %d logprobs", ids.size(), produced.logprobs_size()));
  }
  for (int i = 0; i < ids.size(); ++i) {
    const size_t index = first + i;
    if (index < ids_.size() && kPlanted != Plant::kDeliverTwice) {  // sent again after a break: must be what it was
      if (ids_[index] != ids[i]) {
        return absl::DataLossError(absl::StrFormat("token %d came as %d and again as %d", index, ids_[index], ids[i]));
      }
      continue;
    }
    if (index >= most) return absl::DataLossError(absl::StrFormat("token %d is beyond max_tokens %d", index, most));
    if (ids[i] >= shape_.vocab_size) {
      return absl::DataLossError(
          absl::StrFormat("token %d is %d; the vocabulary has %d", index, ids[i], shape_.vocab_size));
    }
    ids_.push_back(ids[i]);
    if (shape_.logprobs) logprobs_.push_back(produced.logprobs(i));
    if (const auto stop = text_.Append(ids[i])) return stop;
  }
  return std::nullopt;
}

size_t TokenLog::Fill(size_t begin, size_t end, v1::Chunk* chunk) const {
  end = std::min(end, begin + (shape_.logprobs ? kMostTokensPerChunkWithLogprobs : kMostTokensPerChunk));
  chunk->Clear();
  chunk->set_offset(begin);
  chunk->mutable_token_ids()->Add(ids_.begin() + begin, ids_.begin() + end);
  const absl::string_view text = text_.Between(begin, end);
  chunk->set_text(text.data(), text.size());
  if (shape_.logprobs) {
    for (size_t i = begin; i < end; ++i) *chunk->add_logprobs() = logprobs_[i];
    AddTokenTexts(*shape_.tokenizer, chunk);
  }
  return end;
}

void TokenLog::Copy(v1::AssignRequest* command) const {
  command->mutable_output_ids()->Assign(ids_.begin(), ids_.end());
  command->mutable_output_logprobs()->Assign(logprobs_.begin(), logprobs_.end());
}

bool TokenLog::Agrees(absl::Span<const uint32_t> ids) const {
  return std::equal(ids.begin(), ids.begin() + std::min(ids.size(), ids_.size()), ids_.begin());
}

size_t TokenLog::bytes() const {
  size_t bytes = ids_.capacity() * sizeof(ids_[0]) + text_.bytes();
  for (const auto& logprobs : logprobs_) bytes += logprobs.SpaceUsedLong();
  return bytes;
}

}  // namespace tandem::scheduler
