#include "scheduler/tokenizer/incremental_detokenizer.h"

#include "scheduler/tokenizer/utf8.h"

namespace tandem::tokenizer {

IncrementalDetokenizer::IncrementalDetokenizer(const Tokenizer& tokenizer, const DetokenizeOptions& options)
    : tokenizer_(&tokenizer), options_(options) {
  const TextStart start = options.continues_text ? TextStart{} : tokenizer.text_start();
  first_differs_ = start.first_token_differs;
  strip_left_ = start.strip_count;
  strip_char_ = start.strip_char;
}

void IncrementalDetokenizer::Append(int32_t id, std::string* text) {
  if (id < 0 || id >= tokenizer_->vocab_size()) return;
  if (options_.skip_special_tokens && tokenizer_->IsSpecial(id)) return;
  if (first_differs_) {
    pending_ = tokenizer_->FirstTokenBytes(id);
    first_differs_ = false;
  } else {
    const absl::string_view bytes = tokenizer_->TokenBytes(id);
    pending_.append(bytes.data(), bytes.size());
  }
  while (strip_left_ > 0 && !pending_.empty()) {
    if (pending_[0] == strip_char_) {
      pending_.erase(0, 1);
      --strip_left_;
    } else {
      strip_left_ = 0;
    }
  }
  MoveStable(&pending_, text);
}

void IncrementalDetokenizer::Flush(std::string* text) {
  AppendRepaired(pending_, text);
  pending_.clear();
}

}  // namespace tandem::tokenizer
