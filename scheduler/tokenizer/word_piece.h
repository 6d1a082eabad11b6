// WordPiece, the model of BERT's tokenizers: a word is cut into the longest pieces from the left, all but the first
// spelled with a prefix ("##ing"). A word that cannot be cut to its end, or is too long, is one unknown token.
//
// Immutable after construction; any thread may encode.
#ifndef TANDEM_SCHEDULER_TOKENIZER_WORD_PIECE_H_
#define TANDEM_SCHEDULER_TOKENIZER_WORD_PIECE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "scheduler/tokenizer/vocabulary.h"

namespace tandem::tokenizer {

class WordPiece {
 public:
  struct Options {
    int32_t unk_id = 0;
    std::string continuing_prefix = "##";
    size_t max_word_chars = 100;
  };

  WordPiece(std::shared_ptr<const Vocabulary> vocabulary, Options options);

  // Appends the ids of `word`. OutOfRange where `ids` would grow beyond `max_ids`.
  // REQUIRES: valid UTF-8.
  absl::Status Encode(absl::string_view word, size_t max_ids, std::vector<int32_t>* ids) const;

 private:
  const std::shared_ptr<const Vocabulary> vocabulary_;
  const Options options_;
};

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_WORD_PIECE_H_
