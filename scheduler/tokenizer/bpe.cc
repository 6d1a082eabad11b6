#include "scheduler/tokenizer/bpe.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "scheduler/tokenizer/utf8.h"

namespace tandem::tokenizer {
namespace {

constexpr int32_t kNone = -1;
// A word up to this many symbols is merged by looking at all pairs again after each join: no heap, no allocation.
constexpr size_t kFewSymbols = 24;
constexpr absl::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581
// About 40 bytes of working memory for each byte of a word; also keeps offsets within 32 bits.
constexpr size_t kMaxWordBytes = 64 << 20;

// The first U+2581 at or behind `begin` that follows another character, or the end.
size_t PartEndAtSpace(absl::string_view word, size_t begin) {
  size_t at = begin;  // everything in [begin, at) is U+2581
  while (word.substr(at, kSpaceSymbol.size()) == kSpaceSymbol) at += kSpaceSymbol.size();
  return std::min(word.find(kSpaceSymbol, at), word.size());
}

absl::Status TooMany(size_t max_ids) { return absl::OutOfRangeError(absl::StrCat("more than ", max_ids, " tokens")); }

}  // namespace

// A doubly linked list in an array: joining keeps the left symbol and unlinks the right one.
struct Bpe::Symbol {
  uint32_t begin;   // byte offset in the word
  uint32_t length;  // bytes; 0 after the symbol was swallowed
  int32_t id;       // kNone: unknown, or frozen
  int32_t prev;
  int32_t next;
  bool joins;  // false for what may not be merged
};

struct Bpe::Candidate {
  uint32_t rank;
  uint32_t length;  // of both symbols together when this was found: another length means it is stale
  int32_t left;
  int32_t id;
};

Bpe::Bpe(std::shared_ptr<const Vocabulary> vocabulary, const BpeOptions& options)
    : vocabulary_(std::move(vocabulary)), options_(options) {
  for (size_t c = 0; c < char_ids_.size(); ++c) {
    std::string piece;
    AppendChar(static_cast<char32_t>(c), &piece);
    char_ids_[c] = vocabulary_->Find(piece).value_or(kNone);
  }
  // The end of a part is not the end of its word.
  parts_at_space_ = options_.word_end.empty() && vocabulary_->Find(kSpaceSymbol).has_value();
  for (size_t b = 0; b < byte_ids_.size(); ++b) {
    byte_ids_[b] = vocabulary_->Find(BytePiece(static_cast<uint8_t>(b))).value_or(kNone);
  }
}

absl::StatusOr<Bpe> Bpe::FromMerges(std::shared_ptr<const Vocabulary> vocabulary, absl::Span<const Merge> merges,
                                    const BpeOptions& options) {
  Bpe bpe(std::move(vocabulary), options);
  bpe.by_pair_.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const std::string joined = absl::StrCat(left, right);
    for (absl::string_view piece : {left, right, absl::string_view(joined)}) {
      if (!bpe.vocabulary_->Find(piece)) {
        return absl::InvalidArgumentError(
            absl::StrCat("merge ", rank, " names ", QuotePiece(piece), ", which the vocabulary does not have"));
      }
    }
    // A pair that is listed twice counts with its last place, as in the reference.
    bpe.by_pair_[{*bpe.vocabulary_->Find(left), *bpe.vocabulary_->Find(right)}] = {static_cast<uint32_t>(rank),
                                                                                   *bpe.vocabulary_->Find(joined)};
    bpe.NoteJoin(joined);
  }
  return bpe;
}

Bpe Bpe::FromScores(std::shared_ptr<const Vocabulary> vocabulary, absl::Span<const float> scores,
                    const std::vector<bool>& mergeable, const BpeOptions& options) {
  Bpe bpe(std::move(vocabulary), options);
  // Equal scores must get equal ranks: between them the place in the text decides.
  std::vector<float> order;
  for (size_t id = 0; id < scores.size(); ++id) {
    if (mergeable[id]) order.push_back(scores[id]);
  }
  std::sort(order.begin(), order.end(), std::greater<float>());
  order.erase(std::unique(order.begin(), order.end()), order.end());
  for (size_t id = 0; id < scores.size(); ++id) {
    if (!mergeable[id]) continue;
    const auto rank = std::lower_bound(order.begin(), order.end(), scores[id], std::greater<float>()) - order.begin();
    const std::string& piece = *bpe.vocabulary_->Piece(static_cast<int64_t>(id));
    bpe.by_text_[piece] = {static_cast<uint32_t>(rank), static_cast<int32_t>(id)};
    bpe.longest_text_ = std::max(bpe.longest_text_, piece.size());
    bpe.NoteJoin(piece);
  }
  return bpe;
}

void Bpe::NoteJoin(absl::string_view joined) {
  parts_at_space_ = parts_at_space_ && PartEndAtSpace(joined, 0) == joined.size();
}

std::optional<Bpe::Join> Bpe::FindJoin(absl::string_view word, const Symbol& left, const Symbol& right) const {
  if (!left.joins || !right.joins) return std::nullopt;
  if (longest_text_ == 0) {
    const auto it = by_pair_.find({left.id, right.id});
    if (it == by_pair_.end()) return std::nullopt;
    return it->second;
  }
  const size_t length = left.length + right.length;
  if (length > longest_text_) return std::nullopt;
  const auto it = by_text_.find(word.substr(left.begin, length));
  if (it == by_text_.end()) return std::nullopt;
  return it->second;
}

std::vector<Bpe::Symbol> Bpe::Split(absl::string_view word, absl::Span<const Frozen> frozen) const {
  std::vector<Symbol> symbols;
  const auto add = [&](size_t begin, size_t end, int32_t id, bool joins) {
    symbols.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end - begin), id,
                       static_cast<int32_t>(symbols.size()) - 1, static_cast<int32_t>(symbols.size()) + 1, joins});
  };
  // An unknown character that waits for its neighbour, because a run of them may be one unk.
  std::optional<Range> unknown;
  const auto flush_unknown = [&] {
    if (unknown) add(unknown->begin, unknown->end, *options_.unk_id, longest_text_ == 0);
    unknown.reset();
  };
  auto next_frozen = frozen.begin();
  size_t pos = 0;
  while (pos < word.size()) {
    const size_t begin = pos;
    if (next_frozen != frozen.end() && next_frozen->begin == begin) {
      flush_unknown();
      add(begin, next_frozen->end, next_frozen->id, false);
      pos = next_frozen++->end;
      continue;
    }
    const char32_t c = TakeChar(word, &pos);
    const absl::string_view text = word.substr(begin, pos - begin);
    const bool ends_word = pos == word.size() && !options_.word_end.empty();
    const int32_t id = ends_word              ? vocabulary_->Find(absl::StrCat(text, options_.word_end)).value_or(kNone)
                       : c < char_ids_.size() ? char_ids_[c]
                                              : vocabulary_->Find(text).value_or(kNone);
    if (id != kNone) {
      flush_unknown();
      add(begin, pos, id, true);
      continue;
    }
    const auto has_byte = [&](char b) { return byte_ids_[static_cast<uint8_t>(b)] != kNone; };
    if (options_.byte_fallback && std::all_of(text.begin(), text.end(), has_byte)) {
      for (size_t i = begin; i < pos; ++i) add(i, i + 1, byte_ids_[static_cast<uint8_t>(word[i])], true);
      continue;
    }
    if (!options_.unk_id) continue;
    if (unknown && options_.fuse_unk) {
      unknown->end = pos;
    } else {
      flush_unknown();
      unknown = Range{begin, pos};
    }
  }
  flush_unknown();
  if (!symbols.empty()) symbols.back().next = kNone;
  return symbols;
}

size_t Bpe::KeptBytes(absl::string_view word) const {
  size_t kept = 0;
  for (size_t pos = 0; pos < word.size();) {
    const size_t begin = pos;
    const char32_t c = TakeChar(word, &pos);
    const absl::string_view text = word.substr(begin, pos - begin);
    const bool known = c < char_ids_.size() ? char_ids_[c] != kNone : vocabulary_->Find(text).has_value();
    if (known || options_.byte_fallback) kept += text.size();
  }
  return kept;
}

void Bpe::MergeFew(absl::string_view word, std::vector<Symbol>* symbols) const {
  std::vector<Symbol>& s = *symbols;
  std::array<Join, kFewSymbols> joins;  // joins[i] is of s[i] and s[i + 1]
  constexpr Join kNever = {std::numeric_limits<uint32_t>::max(), kNone};
  const auto find = [&](size_t i) { return FindJoin(word, s[i], s[i + 1]).value_or(kNever); };
  for (size_t i = 0; i + 1 < s.size(); ++i) joins[i] = find(i);
  while (s.size() > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < s.size(); ++i) {
      if (joins[i].rank < joins[best].rank) best = i;
    }
    if (joins[best].id == kNone) return;
    s[best].length += s[best + 1].length;
    s[best].id = joins[best].id;
    s.erase(s.begin() + static_cast<ptrdiff_t>(best) + 1);
    std::copy(joins.begin() + best + 1, joins.begin() + s.size(), joins.begin() + best);
    if (best > 0) joins[best - 1] = find(best - 1);
    if (best + 1 < s.size()) joins[best] = find(best);
  }
}

void Bpe::MergeMany(absl::string_view word, std::vector<Symbol>* symbols) const {
  std::vector<Symbol>& s = *symbols;
  std::vector<Candidate> heap;
  const auto worse = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  };
  const auto look = [&](int32_t left) -> bool {
    if (left == kNone || s[left].next == kNone) return false;
    const Symbol& right = s[s[left].next];
    const std::optional<Join> join = FindJoin(word, s[left], right);
    if (join) heap.push_back({join->rank, s[left].length + right.length, left, join->id});
    return join.has_value();
  };
  for (size_t i = 0; i < s.size(); ++i) look(static_cast<int32_t>(i));
  std::make_heap(heap.begin(), heap.end(), worse);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), worse);
    const Candidate top = heap.back();
    heap.pop_back();
    Symbol& left = s[top.left];
    if (left.length == 0 || left.next == kNone) continue;
    Symbol& right = s[left.next];
    if (left.length + right.length != top.length) continue;
    left.length = top.length;
    left.id = top.id;
    right.length = 0;
    left.next = right.next;
    if (left.next != kNone) s[left.next].prev = top.left;
    if (look(left.prev)) std::push_heap(heap.begin(), heap.end(), worse);
    if (look(top.left)) std::push_heap(heap.begin(), heap.end(), worse);
  }
  s.erase(std::remove_if(s.begin(), s.end(), [](const Symbol& symbol) { return symbol.length == 0; }), s.end());
}

absl::Status Bpe::Encode(absl::string_view word, absl::Span<const Frozen> frozen, size_t max_ids,
                         std::vector<int32_t>* ids) const {
  if (options_.ignore_merges) {
    if (const std::optional<int32_t> id = vocabulary_->Find(word)) {
      if (ids->size() >= max_ids) return TooMany(max_ids);
      ids->push_back(*id);
      return absl::OkStatus();
    }
  }
  if (!parts_at_space_ || !frozen.empty()) return EncodePart(word, frozen, max_ids, ids);
  for (size_t begin = 0; begin < word.size();) {
    const size_t end = PartEndAtSpace(word, begin);
    if (absl::Status status = EncodePart(word.substr(begin, end - begin), {}, max_ids, ids); !status.ok()) {
      return status;
    }
    begin = end;
  }
  return absl::OkStatus();
}

absl::Status Bpe::EncodePart(absl::string_view part, absl::Span<const Frozen> frozen, size_t max_ids,
                             std::vector<int32_t>* ids) const {
  // No piece stands for more bytes than the longest has, so a huge word need not be merged to be known as too long.
  const size_t longest = std::max<size_t>(vocabulary_->longest_piece_bytes(), 1);
  if (part.size() / longest > max_ids && KeptBytes(part) / longest > max_ids) return TooMany(max_ids);
  if (part.size() > kMaxWordBytes) {
    return absl::OutOfRangeError(absl::StrCat("one word has ", part.size(), " bytes, the limit is ", kMaxWordBytes));
  }
  std::vector<Symbol> symbols = Split(part, frozen);
  if (symbols.size() <= kFewSymbols) {
    MergeFew(part, &symbols);
  } else {
    MergeMany(part, &symbols);
  }
  if (symbols.size() > max_ids - std::min(max_ids, ids->size())) return TooMany(max_ids);
  for (const Symbol& symbol : symbols) ids->push_back(symbol.id);
  return absl::OkStatus();
}

}  // namespace tandem::tokenizer
