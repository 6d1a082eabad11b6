// What a loader reads from a model folder, ready to be a Tokenizer.
#ifndef TANDEM_SCHEDULER_TOKENIZER_TOKENIZER_PARTS_H_
#define TANDEM_SCHEDULER_TOKENIZER_TOKENIZER_PARTS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "scheduler/tokenizer/added_tokens.h"
#include "scheduler/tokenizer/bpe.h"
#include "scheduler/tokenizer/decoder.h"
#include "scheduler/tokenizer/normalizer.h"
#include "scheduler/tokenizer/post_processor.h"
#include "scheduler/tokenizer/pre_tokenizer.h"
#include "scheduler/tokenizer/sentencepiece_text.h"
#include "scheduler/tokenizer/unigram.h"
#include "scheduler/tokenizer/vocabulary.h"
#include "scheduler/tokenizer/word_piece.h"

namespace tandem::tokenizer {

struct TokenizerParts {
  std::string source;  // file name, for messages
  // The model's own pieces. An added token need not be one of them: no word of ordinary text may become it.
  std::shared_ptr<const Vocabulary> vocabulary;
  // The model: exactly one of the three.
  std::shared_ptr<const Bpe> bpe;
  std::shared_ptr<const Unigram> unigram;
  std::shared_ptr<const WordPiece> word_piece;
  std::vector<AddedToken> added;
  Normalizer normalizer;
  // How a stretch of text becomes words.
  std::variant<PreTokenizer, SentencePieceText> words;
  std::vector<int32_t> prefix;  // around every prompt
  std::vector<int32_t> suffix;
  std::vector<PairItem> pair;  // how two texts stand together; empty: they do not
  Decoder decoder;
  std::optional<int32_t> bos_id;
  std::optional<int32_t> eos_id;
};

// One loader per format. Errors begin with what is wrong in the file; Tokenizer::Load adds the file's path.
absl::StatusOr<TokenizerParts> ParseTokenizerJson(absl::string_view text);
absl::StatusOr<TokenizerParts> ParseGpt2Files(absl::string_view vocab_json, absl::string_view merges_txt);
// CLIP's files have the same names; the first tells which they are.
bool AreClipFiles(absl::string_view vocab_json, absl::string_view merges_txt);
absl::StatusOr<TokenizerParts> ParseClipFiles(absl::string_view vocab_json, absl::string_view merges_txt);
absl::StatusOr<TokenizerParts> ParseSentencePieceModel(absl::string_view bytes);

// A piece or an added token by its spelling.
std::optional<int32_t> FindToken(const TokenizerParts& parts, absl::string_view content);

// What tokenizer_config.json adds to the file beside it: the names of the begin and end tokens, and for the formats
// that have no place for it, whether they are put around a prompt.
absl::Status ApplyTokenizerConfig(absl::string_view text, TokenizerParts* parts);

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_TOKENIZER_PARTS_H_
