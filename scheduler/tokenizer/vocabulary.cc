#include "scheduler/tokenizer/vocabulary.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tandem::tokenizer {

std::string BytePiece(uint8_t byte) { return absl::StrFormat("<0x%02X>", byte); }

std::optional<uint8_t> ParseBytePiece(absl::string_view piece) {
  if (piece.size() != 6 || piece.substr(0, 3) != "<0x" || piece[5] != '>') return std::nullopt;
  int value = 0;
  for (char c : piece.substr(3, 2)) {
    if (c >= '0' && c <= '9') {
      value = value * 16 + (c - '0');
    } else if (c >= 'A' && c <= 'F') {
      value = value * 16 + (c - 'A' + 10);
    } else if (c >= 'a' && c <= 'f') {
      value = value * 16 + (c - 'a' + 10);
    } else {
      return std::nullopt;
    }
  }
  return static_cast<uint8_t>(value);
}

std::string QuotePiece(absl::string_view piece) {
  constexpr size_t kShown = 40;
  return absl::StrCat("\"", absl::CHexEscape(piece.substr(0, kShown)), piece.size() > kShown ? "..." : "", "\"");
}

absl::Status Vocabulary::Add(absl::string_view piece, int64_t id) {
  if (id < 0 || id > kMaxId) {
    return absl::InvalidArgumentError(
        absl::StrCat("id ", id, " of piece ", QuotePiece(piece), " is outside [0, ", kMaxId, "]"));
  }
  if (piece.size() > kMaxPieceBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("piece ", id, " has ", piece.size(), " bytes, the limit is ", kMaxPieceBytes));
  }
  if (const std::string* taken = Piece(id)) {
    return absl::InvalidArgumentError(
        absl::StrCat("id ", id, " stands for two pieces, ", QuotePiece(*taken), " and ", QuotePiece(piece)));
  }
  if (const std::optional<int32_t> other = Find(piece)) {
    return absl::InvalidArgumentError(absl::StrCat("piece ", QuotePiece(piece), " has two ids, ", *other, " and ", id));
  }
  const std::string& stored = storage_.emplace_back(piece);
  if (id >= size()) pieces_.resize(static_cast<size_t>(id) + 1, nullptr);
  pieces_[static_cast<size_t>(id)] = &stored;
  ids_.emplace(stored, static_cast<int32_t>(id));
  longest_ = std::max(longest_, piece.size());
  return absl::OkStatus();
}

std::optional<int32_t> Vocabulary::Find(absl::string_view piece) const {
  const auto it = ids_.find(piece);
  if (it == ids_.end()) return std::nullopt;
  return it->second;
}

}  // namespace tandem::tokenizer
