#include "scheduler/tokenizer/unigram.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/tokenizer/utf8.h"

namespace tandem::tokenizer {
namespace {

constexpr double kUnknownPenalty = 10.0;   // below the lowest score
constexpr size_t kMaxWordBytes = 4 << 20;  // 16 bytes of working memory for each
constexpr int32_t kNothing = -1;

}  // namespace

Unigram::Unigram(std::shared_ptr<const Vocabulary> vocabulary, std::vector<double> scores, const Options& options)
    : vocabulary_(std::move(vocabulary)), scores_(std::move(scores)), options_(options) {
  if (!scores_.empty()) unknown_score_ = *std::min_element(scores_.begin(), scores_.end()) - kUnknownPenalty;
  for (size_t b = 0; b < byte_ids_.size(); ++b) {
    byte_ids_[b] = vocabulary_->Find(BytePiece(static_cast<uint8_t>(b))).value_or(kNothing);
  }
  BuildTree();
}

// In the order of their bytes, so that each piece shares a path with the one before, and siblings come in order.
void Unigram::BuildTree() {
  std::vector<std::pair<absl::string_view, int32_t>> pieces;
  for (int32_t id = 0; id < vocabulary_->size(); ++id) {
    const std::string* piece = vocabulary_->Piece(id);
    if (piece != nullptr && !piece->empty()) pieces.push_back({*piece, id});
  }
  std::sort(pieces.begin(), pieces.end());
  nodes_.push_back({});
  std::vector<uint32_t> path = {0};  // the nodes of the last piece, from the root
  absl::string_view last;
  for (const auto& [piece, id] : pieces) {
    size_t shared = 0;
    while (shared < last.size() && shared < piece.size() && last[shared] == piece[shared]) ++shared;
    const uint32_t elder = shared + 1 < path.size() ? path[shared + 1] : 0;
    path.resize(shared + 1);
    for (size_t i = shared; i < piece.size(); ++i) {
      const auto node = static_cast<uint32_t>(nodes_.size());
      nodes_.push_back({.byte = static_cast<uint8_t>(piece[i])});
      if (i == shared && elder != 0) {
        nodes_[elder].next_sibling = node;
      } else {
        nodes_[path.back()].first_child = node;
      }
      path.push_back(node);
    }
    nodes_[path.back()].id = id;
    last = piece;
  }
  for (uint32_t node = nodes_[0].first_child; node != 0; node = nodes_[node].next_sibling) {
    roots_[nodes_[node].byte] = node;
  }
}

uint32_t Unigram::Child(uint32_t node, uint8_t byte) const {
  if (node == 0) return roots_[byte];
  uint32_t child = nodes_[node].first_child;
  while (child != 0 && nodes_[child].byte < byte) child = nodes_[child].next_sibling;
  return child != 0 && nodes_[child].byte == byte ? child : 0;
}

absl::Status Unigram::Encode(absl::string_view word, size_t max_ids, std::vector<int32_t>* ids) const {
  if (word.size() > kMaxWordBytes) {
    return absl::OutOfRangeError(absl::StrCat("one word has ", word.size(), " bytes, the limit is ", kMaxWordBytes));
  }
  const int32_t unknown = options_.unk_id.value_or(vocabulary_->size());
  std::vector<Best> best(word.size() + 1);
  const auto offer = [&](size_t begin, size_t end, double score, int32_t id) {
    Best& at = best[end];
    if (at.id == kNothing || score > at.score) at = {score, static_cast<uint32_t>(begin), id};
  };
  for (size_t begin = 0; begin < word.size();) {
    const double before = best[begin].score;
    size_t next = begin;
    TakeChar(word, &next);
    bool known = false;
    uint32_t node = 0;
    for (size_t end = begin; end < word.size();) {
      node = Child(node, static_cast<uint8_t>(word[end++]));
      if (node == 0) break;
      if (nodes_[node].id == kNothing) continue;
      known = known || end == next;
      offer(begin, end, scores_[static_cast<size_t>(nodes_[node].id)] + before, nodes_[node].id);
    }
    if (!known) offer(begin, next, unknown_score_ + before, unknown);
    begin = next;
  }
  // Back from the end: the stretches, runs of unknown ones as one.
  std::vector<Range> stretches;
  bool open = false;
  for (size_t end = word.size(); end > 0;) {
    const Best& last = best[end];
    const bool is_unknown = last.id == unknown;
    if (is_unknown && open) {
      stretches.back().begin = last.begin;
    } else {
      stretches.push_back({last.begin, end});
    }
    open = is_unknown;
    end = last.begin;
  }
  for (auto stretch = stretches.rbegin(); stretch != stretches.rend(); ++stretch) {
    absl::Status status = AppendStretch(word.substr(stretch->begin, stretch->end - stretch->begin), max_ids, ids);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Unigram::AppendStretch(absl::string_view text, size_t max_ids, std::vector<int32_t>* ids) const {
  const auto has_byte = [&](char b) { return byte_ids_[static_cast<uint8_t>(b)] != kNothing; };
  const std::optional<int32_t> id = vocabulary_->Find(text);
  const bool bytes = !id && options_.byte_fallback && std::all_of(text.begin(), text.end(), has_byte);
  if (!id && !bytes && !options_.unk_id) {
    return absl::InvalidArgumentError("the text has a character that the model knows no token for");
  }
  if ((bytes ? text.size() : 1) > max_ids - std::min(max_ids, ids->size())) {
    return absl::OutOfRangeError(absl::StrCat("more than ", max_ids, " tokens"));
  }
  if (bytes) {
    for (const char b : text) ids->push_back(byte_ids_[static_cast<uint8_t>(b)]);
  } else {
    ids->push_back(id ? *id : *options_.unk_id);
  }
  return absl::OkStatus();
}

}  // namespace tandem::tokenizer
