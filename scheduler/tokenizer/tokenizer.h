// Text to token ids and back, by a model folder's own files.
//
//   tokenizer.json               Hugging Face, model BPE: byte-level (GPT-2, Llama 3, Qwen2, CLIP) or SentencePiece
//   style;
//                                model WordPiece (BERT); model Unigram (XLM-R, T5)
//   tokenizer.model              SentencePiece BPE with byte fallback (Llama, Mistral)
//   vocab.json and merges.txt    GPT-2, CLIP
//
// The first that is there counts. Ids equal those of the reference (`tokenizers`, `sentencepiece`); a part of a file
// that is not understood is refused by name at load, since a guess would only show as bad answers. No message holds
// prompt text. Unicode data is of version 14: the reference may cut characters younger than that at other places.
//
// Immutable after Load(); any thread may use it, and a shared_ptr keeps it alive across a model's reload.
#ifndef TANDEM_SCHEDULER_TOKENIZER_TOKENIZER_H_
#define TANDEM_SCHEDULER_TOKENIZER_TOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "scheduler/tokenizer/utf8.h"

namespace tandem::tokenizer {

struct EncodeOptions {
  // What the model's files put around a prompt (Llama: <s> in front).
  bool add_special_tokens = true;
  // "<|im_start|>" in the text is that token, as a rendered chat template needs it. Switch it off for text that must
  // not steer the model; the characters are then ordinary text.
  bool parse_special = true;
  // Bytes of the text, as ascending ranges, of which no special token may be made all the same: what people said within
  // a rendered chat template. Text without such tokens in it has the same ids either way.
  absl::Span<const Range> plain = {};
  // OutOfRange as soon as more are certain, usually long before the whole text was looked at.
  size_t max_tokens = std::numeric_limits<size_t>::max();
  // No word is begun once so many ids are there: they are then those that the whole text begins with.
  size_t stop_after = std::numeric_limits<size_t>::max();
};

struct PairOptions {
  // The most ids of the whole, those around the texts included. More are OutOfRange, or with `truncate` cut: of the
  // longer text first, then of both alike, as the reference does by default.
  size_t max_tokens = std::numeric_limits<size_t>::max();
  bool truncate = false;
};

// One or two texts as an encoder reads them.
struct EncoderInput {
  std::vector<int32_t> ids;
  size_t second_at = 0;  // where the ids of segment 1 begin; 0: there are none
  bool truncated = false;
};

struct TokenizerParts;

// How the beginning of a text differs from its middle.
struct TextStart {
  bool first_token_differs = false;  // the first token stands for FirstTokenBytes()
  size_t strip_count = 0;            // this many leading `strip_char` are spelling, and no part of the text
  char strip_char = ' ';
};

class Tokenizer {
 public:
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> Load(const std::string& model_folder);
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> FromParts(TokenizerParts parts);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // InvalidArgument: `text` is no valid UTF-8; the message has the byte offset. OutOfRange: max_tokens.
  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text, const EncodeOptions& options = {}) const;

  // One text or, with `second`, a pair, with all that the model's files put around them. Statuses as Encode;
  // FailedPrecondition where the files do not say how a pair stands together. What is cut off is hardly looked at.
  absl::StatusOr<EncoderInput> EncodeForEncoder(absl::string_view first, const std::optional<absl::string_view>& second,
                                                const PairOptions& options) const;
  // The same for one text beside many: the ids of the first, which EncodePair takes as often as there are second ones.
  absl::StatusOr<std::vector<int32_t>> EncodeFirst(absl::string_view first, const PairOptions& options) const;
  absl::StatusOr<EncoderInput> EncodePair(absl::Span<const int32_t> first, absl::string_view second,
                                          const PairOptions& options) const;

  // The text of a whole sequence. Ids that name nothing are left out, ill-formed bytes become U+FFFD: what a stream
  // would have delivered (incremental_detokenizer.h).
  std::string Decode(absl::Span<const int32_t> ids, bool skip_special_tokens = true) const;

  int32_t vocab_size() const;  // largest id + 1; a model's padded vocabulary may be larger
  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;
  bool IsSpecial(int32_t id) const;

  // The bytes that `id` adds to a text that has begun. They need not be whole characters. Empty for an id that names
  // nothing.
  absl::string_view TokenBytes(int32_t id) const;

  // The same for an id that begins a text, before anything is stripped.
  std::string FirstTokenBytes(int32_t id) const;
  TextStart text_start() const;

  // Some token of `ids` has text. A stream that follows such a prompt continues it, and its first space is a space.
  bool HasText(absl::Span<const int32_t> ids) const;

  absl::string_view source() const;  // the file that was read, e.g. "tokenizer.json"

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);
  absl::Status EncodeStretch(absl::string_view text, size_t offset, const EncodeOptions& options, size_t max_ids,
                             std::vector<int32_t>* ids) const;
  absl::Status EncodeNormalized(absl::string_view text, bool starts_prompt, bool parse_special, size_t max_ids,
                                size_t stop_after, std::vector<int32_t>* ids) const;

  const std::unique_ptr<const Impl> impl_;
};

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_TOKENIZER_H_
