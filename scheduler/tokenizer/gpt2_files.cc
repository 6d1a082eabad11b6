// Reads GPT-2's pair of files: vocab.json (piece -> id) and merges.txt (one pair a line, best first).
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "scheduler/tokenizer/json_fields.h"
#include "scheduler/tokenizer/tokenizer_parts.h"
#include "scheduler/tokenizer/utf8.h"
#include "scheduler/tokenizer/vocabulary.h"

namespace tandem::tokenizer {
namespace {

constexpr char kEndOfText[] = "<|endoftext|>";

absl::StatusOr<std::vector<Bpe::Merge>> ReadMerges(absl::string_view text) {
  if (const std::optional<size_t> bad = FindInvalidUtf8(text)) {
    return absl::InvalidArgumentError(absl::StrCat("merges.txt: no valid UTF-8 at byte ", *bad));
  }
  std::vector<Bpe::Merge> merges;
  size_t line_number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++line_number;
    absl::ConsumeSuffix(&line, "\r");
    if (line.empty() || (line_number == 1 && line.substr(0, 9) == "#version:")) continue;
    const std::vector<absl::string_view> sides = absl::StrSplit(line, ' ');
    if (sides.size() != 2 || sides[0].empty() || sides[1].empty()) {
      return absl::InvalidArgumentError(absl::StrCat("merges.txt: line ", line_number, " is no pair of pieces"));
    }
    merges.push_back({sides[0], sides[1]});
  }
  return merges;
}

}  // namespace

absl::StatusOr<TokenizerParts> ParseGpt2Files(absl::string_view vocab_json, absl::string_view merges_txt) {
  absl::StatusOr<Json> vocab = ParseJson(vocab_json, "vocab.json");
  if (!vocab.ok()) return vocab.status();
  if (!vocab->is_object()) return absl::InvalidArgumentError("vocab.json: not an object of pieces and ids");
  auto vocabulary = std::make_shared<Vocabulary>();
  for (const auto& [piece, id] : vocab->items()) {
    if (!id.is_number_integer() || (id.is_number_unsigned() && id.get<uint64_t>() > INT64_MAX)) {
      return absl::InvalidArgumentError(absl::StrCat("vocab.json: the id of ", QuotePiece(piece), " is no number"));
    }
    absl::Status status = vocabulary->Add(piece, id.get<int64_t>());
    if (!status.ok()) return absl::InvalidArgumentError(absl::StrCat("vocab.json: ", status.message()));
  }
  absl::StatusOr<std::vector<Bpe::Merge>> merges = ReadMerges(merges_txt);
  if (!merges.ok()) return merges.status();

  TokenizerParts parts;
  parts.source = "vocab.json";
  parts.vocabulary = std::move(vocabulary);
  absl::StatusOr<Bpe> bpe = Bpe::FromMerges(parts.vocabulary, *merges, BpeOptions{});
  if (!bpe.ok()) return absl::InvalidArgumentError(absl::StrCat("merges.txt: ", bpe.status().message()));
  parts.bpe = std::make_shared<const Bpe>(*std::move(bpe));
  parts.words = PreTokenizer::Gpt2(/*add_prefix_space=*/false);
  parts.decoder = Decoder::ByteLevel();
  if (const std::optional<int32_t> id = parts.vocabulary->Find(kEndOfText)) {
    AddedToken token;
    token.id = *id;
    token.content = kEndOfText;
    token.special = true;
    parts.added.push_back(std::move(token));
    parts.bos_id = parts.eos_id = id;
  }
  return parts;
}

}  // namespace tandem::tokenizer
