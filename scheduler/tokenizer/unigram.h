// Unigram, the model of SentencePiece's other tokenizers (XLM-R, multilingual E5, T5): every piece has a score, and a
// word is cut into the pieces whose scores sum highest. A character that no piece begins at is unknown, at a score
// below all others; a run of them is one token, or its bytes where the vocabulary has a piece for each.
//
// The best cut is found from left to right (Viterbi) in O(bytes x longest piece), in double as the reference does, with
// the earlier start kept among equals. Immutable after construction; any thread may encode.
#ifndef TANDEM_SCHEDULER_TOKENIZER_UNIGRAM_H_
#define TANDEM_SCHEDULER_TOKENIZER_UNIGRAM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "scheduler/tokenizer/vocabulary.h"

namespace tandem::tokenizer {

class Unigram {
 public:
  struct Options {
    std::optional<int32_t> unk_id;  // without it a text with an unknown character is refused
    bool byte_fallback = false;
  };

  // `scores[id]` belongs to the piece `id`. REQUIRES: as many as the vocabulary has, finite.
  Unigram(std::shared_ptr<const Vocabulary> vocabulary, std::vector<double> scores, const Options& options);

  // Appends the ids of `word`. OutOfRange where `ids` would grow beyond `max_ids`, and for a word of megabytes.
  // REQUIRES: valid UTF-8.
  absl::Status Encode(absl::string_view word, size_t max_ids, std::vector<int32_t>* ids) const;

 private:
  // A tree of the pieces' bytes. Siblings stand in ascending order of their byte.
  struct Node {
    uint8_t byte = 0;
    int32_t id = -1;  // of the piece that ends here
    uint32_t first_child = 0;
    uint32_t next_sibling = 0;  // 0: none
  };
  // The best cut of what ends at a byte: where its last piece begins, and which it is.
  struct Best {
    double score = 0;
    uint32_t begin = 0;
    int32_t id = -1;  // -1: nothing ends here
  };

  void BuildTree();
  uint32_t Child(uint32_t node, uint8_t byte) const;  // 0: none
  // Appends the ids of a stretch that the best cut made one token.
  absl::Status AppendStretch(absl::string_view text, size_t max_ids, std::vector<int32_t>* ids) const;

  const std::shared_ptr<const Vocabulary> vocabulary_;
  const std::vector<double> scores_;
  const Options options_;
  double unknown_score_ = 0;
  std::array<int32_t, 256> byte_ids_;  // of <0xXX>, -1: none
  std::vector<Node> nodes_;            // the root is 0
  std::array<uint32_t, 256> roots_{};  // the root's children by their byte
};

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_UNIGRAM_H_
