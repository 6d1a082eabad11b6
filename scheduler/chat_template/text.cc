#include "scheduler/chat_template/text.h"

#include <algorithm>

namespace tandem::chat {

Text Text::Given(std::string bytes) {
  Text text(std::move(bytes));
  if (!text.empty()) text.given_.push_back({0, text.size()});
  return text;
}

void Text::Append(const Text& more) {
  const size_t shift = bytes_.size();
  bytes_ += more.bytes_;
  for (const tokenizer::Range& range : more.given_) {
    if (!given_.empty() && given_.back().end == range.begin + shift) {
      given_.back().end = range.end + shift;
    } else {
      given_.push_back({range.begin + shift, range.end + shift});
    }
  }
}

Text Text::Slice(size_t begin, size_t end) const {
  Text part(bytes_.substr(begin, end - begin));
  for (const tokenizer::Range& range : given_) {
    const size_t from = std::max(range.begin, begin), to = std::min(range.end, end);
    if (from < to) part.given_.push_back({from - begin, to - begin});
  }
  return part;
}

Text Text::Derived(std::string bytes) const {
  return given_.empty() ? Text(std::move(bytes)) : Given(std::move(bytes));
}

std::string Text::OwnOnly() const {
  std::string own;
  size_t done = 0;
  for (const tokenizer::Range& range : given_) {
    own.append(bytes_, done, range.begin - done);
    own += "[...]";
    done = range.end;
  }
  return own.append(bytes_, done, std::string::npos);
}

}  // namespace tandem::chat
