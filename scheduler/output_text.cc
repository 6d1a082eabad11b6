#include "scheduler/output_text.h"

#include <utility>

namespace tandem::scheduler {

OutputText::OutputText(std::shared_ptr<const tokenizer::Tokenizer> tokenizer, std::vector<std::string> stop,
                       bool continues_text)
    : tokenizer_(std::move(tokenizer)),
      detokenizer_(*tokenizer_, {.skip_special_tokens = true, .continues_text = continues_text}) {
  if (!stop.empty()) matcher_.emplace(std::move(stop));
}

std::optional<size_t> OutputText::Append(uint32_t id) {
  std::optional<size_t> found;
  if (!matcher_) {
    detokenizer_.Append(static_cast<int32_t>(id), &text_);
  } else {
    piece_.clear();
    detokenizer_.Append(static_cast<int32_t>(id), &piece_);
    if (const auto& stop = matcher_->Append(static_cast<int64_t>(ends_.size()), piece_, &text_)) {
      found = stop->string_index;
    }
  }
  ends_.push_back(static_cast<uint32_t>(text_.size()));
  return found;
}

void OutputText::Finish() {
  if (!matcher_) {
    detokenizer_.Flush(&text_);
    return;
  }
  // The end of the text may complete a stop string yet: what was half a character is U+FFFD now.
  piece_.clear();
  detokenizer_.Flush(&piece_);
  matcher_->Append(static_cast<int64_t>(ends_.size()), piece_, &text_);
  if (!matcher_->stop()) matcher_->Flush(&text_);
}

absl::string_view OutputText::Between(size_t begin, size_t end) const {
  const size_t from = begin == 0 ? 0 : ends_[begin - 1];
  const size_t to = end == 0 ? 0 : ends_[end - 1];
  return absl::string_view(text_).substr(from, to - from);
}

absl::string_view OutputText::Tail() const { return absl::string_view(text_).substr(ends_.empty() ? 0 : ends_.back()); }

}  // namespace tandem::scheduler
