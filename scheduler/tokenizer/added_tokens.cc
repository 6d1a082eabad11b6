#include "scheduler/tokenizer/added_tokens.h"

#include <algorithm>

#include "scheduler/tokenizer/unicode.h"
#include "scheduler/tokenizer/utf8.h"

namespace tandem::tokenizer {
namespace {

bool IsTail(char b) { return (static_cast<uint8_t>(b) & 0xC0) == 0x80; }

// The last character before `end`, and where it begins. REQUIRES: `end` > 0.
char32_t CharBefore(absl::string_view utf8, size_t end, size_t* begin) {
  *begin = end - 1;
  while (*begin > 0 && IsTail(utf8[*begin])) --*begin;
  size_t pos = *begin;
  return TakeChar(utf8, &pos);
}

bool WordBefore(absl::string_view utf8, size_t pos) {
  size_t begin = 0;
  return pos > 0 && IsWord(CharBefore(utf8, pos, &begin));
}

bool WordAt(absl::string_view utf8, size_t pos) { return pos < utf8.size() && IsWord(TakeChar(utf8, &pos)); }

bool Overlaps(absl::Span<const Range> ranges, size_t begin, size_t end) {
  const auto at = std::partition_point(ranges.begin(), ranges.end(), [&](const Range& r) { return r.end <= begin; });
  return at != ranges.end() && at->begin < end;
}

}  // namespace

TokenMatcher::TokenMatcher(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)), token_at_node_{-1} {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    uint64_t node = 0;
    for (char b : tokens_[i].content) {
      const auto [it, is_new] =
          children_.try_emplace(node << 8 | static_cast<uint8_t>(b), static_cast<uint32_t>(token_at_node_.size()));
      if (is_new) token_at_node_.push_back(-1);
      node = it->second;
    }
    token_at_node_[node] = static_cast<int32_t>(i);
    starts_[static_cast<uint8_t>(tokens_[i].content[0])] = true;
  }
}

const AddedToken* TokenMatcher::MatchAt(absl::string_view utf8, size_t pos) const {
  const AddedToken* longest = nullptr;
  uint64_t node = 0;
  for (; pos < utf8.size(); ++pos) {
    const auto it = children_.find(node << 8 | static_cast<uint8_t>(utf8[pos]));
    if (it == children_.end()) break;
    node = it->second;
    if (token_at_node_[node] >= 0) longest = &tokens_[static_cast<size_t>(token_at_node_[node])];
  }
  return longest;
}

absl::Status TokenMatcher::Split(absl::string_view utf8, bool parse_special, absl::Span<const Range> plain,
                                 absl::FunctionRef<absl::Status(absl::string_view, size_t)> text,
                                 absl::FunctionRef<absl::Status(const AddedToken&)> token) const {
  size_t done = 0;  // everything before was handed out
  size_t pos = 0;
  while (pos < utf8.size()) {
    if (!starts_[static_cast<uint8_t>(utf8[pos])]) {
      ++pos;
      continue;
    }
    const AddedToken* match = MatchAt(utf8, pos);
    if (match == nullptr) {
      ++pos;
      continue;
    }
    size_t begin = pos;
    size_t end = pos + match->content.size();
    pos = end;  // Also a match that does not count hides the ones inside it.
    if (match->special && !parse_special) continue;
    if (match->special && Overlaps(plain, begin, end)) {
      pos = begin + 1;  // one that begins a byte later may be wholly outside of it
      continue;
    }
    if (match->single_word && (WordBefore(utf8, begin) || WordAt(utf8, end))) continue;
    if (match->lstrip) {
      size_t before = 0;
      while (begin > done && IsWhitespace(CharBefore(utf8, begin, &before))) begin = before;
    }
    if (match->rstrip) {
      for (size_t next = end; next < utf8.size() && IsWhitespace(TakeChar(utf8, &next));) end = next;
    }
    if (begin > done) {
      if (absl::Status status = text(utf8.substr(done, begin - done), done); !status.ok()) return status;
    }
    if (absl::Status status = token(*match); !status.ok()) return status;
    done = pos = end;
  }
  if (done < utf8.size()) return text(utf8.substr(done), done);
  return absl::OkStatus();
}

}  // namespace tandem::tokenizer
