// Byte pair encoding: cuts a word into single characters and joins neighbours, the best pair first, until none is left.
//
// "Best" has two dialects. A tokenizer.json lists pairs of pieces, earlier is better. A SentencePiece model lists
// pieces with scores: any two neighbours whose joined text is a piece may join, a higher score is better. Ties go to
// the leftmost pair in both. A heap of candidates over a linked list of symbols makes it O(n log n), so a word of ten
// million equal letters is slow, not endless.
//
// Immutable after construction; any thread may encode.
#ifndef TANDEM_SCHEDULER_TOKENIZER_BPE_H_
#define TANDEM_SCHEDULER_TOKENIZER_BPE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "scheduler/tokenizer/vocabulary.h"

namespace tandem::tokenizer {

struct BpeOptions {
  std::optional<int32_t> unk_id;  // for a character that is no piece; without it such a character vanishes
  bool fuse_unk = false;          // a run of unknown characters is one unk
  bool byte_fallback = false;     // an unknown character becomes its <0xXX> pieces, where all of them exist
  bool ignore_merges = false;     // a word that is a piece is that piece, whatever the merges say
  std::string word_end;           // stands behind a word's last character in its piece: CLIP's "</w>"
};

class Bpe {
 public:
  using Merge = std::pair<absl::string_view, absl::string_view>;

  // The tokenizer.json dialect. Refuses a merge whose parts or result are no pieces.
  static absl::StatusOr<Bpe> FromMerges(std::shared_ptr<const Vocabulary> vocabulary, absl::Span<const Merge> merges,
                                        const BpeOptions& options);

  // The SentencePiece dialect. `scores[id]` counts where `mergeable[id]`.
  static Bpe FromScores(std::shared_ptr<const Vocabulary> vocabulary, absl::Span<const float> scores,
                        const std::vector<bool>& mergeable, const BpeOptions& options);

  // A stretch of a word that is one symbol from the start and joins nothing.
  struct Frozen {
    size_t begin;  // bytes
    size_t end;
    int32_t id;
  };

  // Appends the ids of `word`. OutOfRange as soon as it is certain that `ids` would grow beyond `max_ids`.
  // REQUIRES: valid UTF-8; `frozen` is ordered, apart, on character boundaries.
  absl::Status Encode(absl::string_view word, absl::Span<const Frozen> frozen, size_t max_ids,
                      std::vector<int32_t>* ids) const;

  const Vocabulary& vocabulary() const { return *vocabulary_; }
  const std::string& word_end() const { return options_.word_end; }

 private:
  struct Symbol;
  struct Candidate;
  struct Join {
    uint32_t rank;  // lower is better
    int32_t id;
  };

  Bpe(std::shared_ptr<const Vocabulary> vocabulary, const BpeOptions& options);

  std::optional<Join> FindJoin(absl::string_view word, const Symbol& left, const Symbol& right) const;
  std::vector<Symbol> Split(absl::string_view word, absl::Span<const Frozen> frozen) const;
  // How much of `word` is sure to appear in pieces; unknown characters may vanish or share an unk.
  size_t KeptBytes(absl::string_view word) const;
  absl::Status EncodePart(absl::string_view part, absl::Span<const Frozen> frozen, size_t max_ids,
                          std::vector<int32_t>* ids) const;
  void NoteJoin(absl::string_view joined);  // keeps parts_at_space_ true to its word
  void MergeFew(absl::string_view word, std::vector<Symbol>* symbols) const;
  void MergeMany(absl::string_view word, std::vector<Symbol>* symbols) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  BpeOptions options_;
  std::array<int32_t, 0x250> char_ids_;  // ids of one-character pieces up to U+024F, -1 where there is none
  std::array<int32_t, 256> byte_ids_;    // ids of <0xXX>
  // Exactly one of the two is filled.
  absl::flat_hash_map<std::pair<int32_t, int32_t>, Join> by_pair_;
  absl::flat_hash_map<absl::string_view, Join> by_text_;
  size_t longest_text_ = 0;
  // U+2581 is a piece, and stands in no join behind another character: a SentencePiece text, which comes as one word,
  // can be merged word by word.
  bool parts_at_space_ = false;
};

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_BPE_H_
