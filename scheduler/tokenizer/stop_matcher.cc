#include "scheduler/tokenizer/stop_matcher.h"

#include <algorithm>

namespace tandem::tokenizer {

StopMatcher::StopMatcher(std::vector<std::string> stop_strings) {
  for (size_t i = 0; i < stop_strings.size(); ++i) {
    if (stop_strings[i].empty()) continue;
    Pattern pattern{std::move(stop_strings[i]), i, {}, 0};
    const std::string& s = pattern.text;
    pattern.fallback.assign(s.size(), 0);
    for (size_t at = 1, border = 0; at < s.size(); ++at) {
      while (border > 0 && s[at] != s[border]) border = pattern.fallback[border - 1];
      if (s[at] == s[border]) ++border;
      pattern.fallback[at] = border;
    }
    patterns_.push_back(std::move(pattern));
  }
}

const std::optional<StopMatcher::Stop>& StopMatcher::Append(int64_t token_index, absl::string_view text,
                                                            std::string* out) {
  if (stop_) return stop_;
  for (char c : text) {
    held_.push_back(c);
    const Pattern* complete = nullptr;
    for (Pattern& p : patterns_) {
      while (p.matched > 0 && p.text[p.matched] != c) p.matched = p.fallback[p.matched - 1];
      if (p.text[p.matched] == c) ++p.matched;
      if (p.matched == p.text.size() && (complete == nullptr || p.text.size() > complete->text.size())) complete = &p;
    }
    if (complete != nullptr) {
      // All of the stop string is held: each of its beginnings was.
      out->append(held_, 0, held_.size() - complete->text.size());
      held_.clear();
      stop_ = Stop{token_index, complete->index};
      return stop_;
    }
  }
  size_t keep = 0;
  for (const Pattern& p : patterns_) keep = std::max(keep, p.matched);
  out->append(held_, 0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return stop_;
}

void StopMatcher::Flush(std::string* out) {
  out->append(held_);
  held_.clear();
}

}  // namespace tandem::tokenizer
