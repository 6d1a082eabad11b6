// The pieces of a tokenizer and their ids. Pieces are as the file spells them; what text a piece stands for is the
// decoder's business. Ids may have holes. Immutable after loading.
#ifndef TANDEM_SCHEDULER_TOKENIZER_VOCABULARY_H_
#define TANDEM_SCHEDULER_TOKENIZER_VOCABULARY_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tandem::tokenizer {

// The spelling of byte pieces: "<0x0A>". Lower-case digits are read, never written.
std::string BytePiece(uint8_t byte);
std::optional<uint8_t> ParseBytePiece(absl::string_view piece);

class Vocabulary {
 public:
  static constexpr int64_t kMaxId = (1 << 21) - 1;  // the largest known vocabularies stay below 2^19
  static constexpr size_t kMaxPieceBytes = 64 * 1024;

  // Refuses an id or a piece that is taken, an id out of [0, kMaxId], an overlong piece.
  absl::Status Add(absl::string_view piece, int64_t id);

  std::optional<int32_t> Find(absl::string_view piece) const;
  // Null for a hole.
  const std::string* Piece(int64_t id) const {
    return id >= 0 && id < size() ? pieces_[static_cast<size_t>(id)] : nullptr;
  }
  int32_t size() const { return static_cast<int32_t>(pieces_.size()); }  // largest id + 1
  size_t longest_piece_bytes() const { return longest_; }

 private:
  std::deque<std::string> storage_;  // never moves what it holds; ids_ looks into it
  std::vector<const std::string*> pieces_;
  absl::flat_hash_map<absl::string_view, int32_t> ids_;
  size_t longest_ = 0;
};

// A piece in an error message: quoted, printable, cut to a length that fits in a line.
std::string QuotePiece(absl::string_view piece);

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_VOCABULARY_H_
