#include "scheduler/tokenizer/word_piece.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "scheduler/tokenizer/utf8.h"

namespace tandem::tokenizer {

WordPiece::WordPiece(std::shared_ptr<const Vocabulary> vocabulary, Options options)
    : vocabulary_(std::move(vocabulary)), options_(std::move(options)) {}

absl::Status WordPiece::Encode(absl::string_view word, size_t max_ids, std::vector<int32_t>* ids) const {
  std::vector<size_t> ends;  // of each character, in bytes
  for (size_t pos = 0; pos < word.size() && ends.size() <= options_.max_word_chars;) {
    TakeChar(word, &pos);
    ends.push_back(pos);
  }
  const size_t before = ids->size();
  bool known = ends.size() <= options_.max_word_chars;
  std::string piece;
  for (size_t first = 0, begin = 0; known && first < ends.size();) {
    piece = begin == 0 ? "" : options_.continuing_prefix;
    const size_t prefix = piece.size();
    piece.append(word.data() + begin, ends.back() - begin);
    // No piece is longer than the longest of the vocabulary, so the search begins there.
    size_t last = ends.size();
    while (last > first + 1 && prefix + ends[last - 1] - begin > vocabulary_->longest_piece_bytes()) --last;
    std::optional<int32_t> id;
    for (; last > first; --last) {
      piece.resize(prefix + ends[last - 1] - begin);
      if ((id = vocabulary_->Find(piece))) break;
    }
    known = id.has_value();
    if (!known) break;
    ids->push_back(*id);
    begin = ends[last - 1];
    first = last;
  }
  if (!known) {
    ids->resize(before);
    ids->push_back(options_.unk_id);
  }
  if (ids->size() <= max_ids) return absl::OkStatus();
  ids->resize(max_ids);
  return absl::OutOfRangeError("more tokens than allowed");
}

}  // namespace tandem::tokenizer
