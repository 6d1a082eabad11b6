#include "scheduler/tokenizer/tokenizer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "scheduler/tokenizer/incremental_detokenizer.h"
#include "scheduler/tokenizer/tokenizer_parts.h"
#include "scheduler/tokenizer/utf8.h"

namespace tandem::tokenizer {
namespace {

namespace fs = std::filesystem;

constexpr uintmax_t kMaxFileBytes = 256 << 20;  // the largest tokenizer.json in use has 35 MB

absl::StatusOr<std::string> ReadFile(const fs::path& path) {
  std::error_code error;
  const uintmax_t size = fs::file_size(path, error);
  if (error) return absl::NotFoundError(absl::StrCat(path.string(), ": ", error.message()));
  if (size > kMaxFileBytes) {
    return absl::InvalidArgumentError(absl::StrCat(path.string(), ": ", size, " bytes, the limit is ", kMaxFileBytes));
  }
  std::ifstream in(path, std::ios::binary);
  std::string bytes(size, '\0');
  if (!in.read(bytes.data(), static_cast<std::streamsize>(size))) {
    return absl::UnavailableError(absl::StrCat(path.string(), ": cannot be read: ", std::strerror(errno)));
  }
  return bytes;
}

// `status` with the file that it is about.
absl::Status In(const fs::path& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path.string(), ": ", status.message()));
}

absl::StatusOr<TokenizerParts> ReadParts(const fs::path& folder) {
  const auto read_one = [&](const char* name, auto parse) -> absl::StatusOr<TokenizerParts> {
    absl::StatusOr<std::string> text = ReadFile(folder / name);
    if (!text.ok()) return text.status();
    absl::StatusOr<TokenizerParts> parts = parse(*text);
    if (!parts.ok()) return In(folder / name, parts.status());
    return parts;
  };
  if (fs::exists(folder / "tokenizer.json")) return read_one("tokenizer.json", ParseTokenizerJson);
  // A file of transformers that adds tokens to the two older formats; without it ids would be missing silently.
  if (fs::exists(folder / "added_tokens.json")) {
    return absl::UnimplementedError(
        absl::StrCat((folder / "added_tokens.json").string(), ": not supported; save the tokenizer as tokenizer.json"));
  }
  if (fs::exists(folder / "tokenizer.model")) return read_one("tokenizer.model", ParseSentencePieceModel);
  if (fs::exists(folder / "vocab.json") && fs::exists(folder / "merges.txt")) {
    absl::StatusOr<std::string> vocab = ReadFile(folder / "vocab.json");
    if (!vocab.ok()) return vocab.status();
    absl::StatusOr<std::string> merges = ReadFile(folder / "merges.txt");
    if (!merges.ok()) return merges.status();
    absl::StatusOr<TokenizerParts> parts =
        AreClipFiles(*vocab, *merges) ? ParseClipFiles(*vocab, *merges) : ParseGpt2Files(*vocab, *merges);
    if (!parts.ok()) return In(folder, parts.status());
    return parts;
  }
  return absl::NotFoundError(absl::StrCat(
      folder.string(), ": no tokenizer: expected tokenizer.json, tokenizer.model, or vocab.json with merges.txt"));
}

// Added tokens by when they are looked for: in the text as it came, or in the normalized text.
absl::StatusOr<TokenMatcher> MakeMatcher(const TokenizerParts& parts, bool normalized) {
  std::vector<AddedToken> chosen;
  for (AddedToken token : parts.added) {
    if (token.normalized != normalized) continue;
    if (normalized) {
      absl::StatusOr<std::string> content = parts.normalizer.Apply(token.content);
      if (!content.ok()) return content.status();
      if (content->empty()) continue;
      token.content = *std::move(content);
    }
    chosen.push_back(std::move(token));
  }
  return TokenMatcher(std::move(chosen));
}

// How a part of the encoding tells those around it that stop_after is reached. No part of it means anything else by it.
absl::Status Enough() { return absl::CancelledError("as many ids as were asked for"); }

absl::Status TooMany(const PairOptions& options) {
  return absl::OutOfRangeError(absl::StrCat("more than ", options.max_tokens, " tokens"));
}

// How to encode one text of an encoder's input with room for so many ids. One id beyond `useful` tells as much as all.
EncodeOptions PartOfInput(const PairOptions& options, size_t room, size_t useful) {
  EncodeOptions out{.add_special_tokens = false};
  if (!options.truncate) {
    out.max_tokens = room;
  } else if (useful < std::numeric_limits<size_t>::max()) {
    out.stop_after = useful + 1;
  }
  return out;
}

// What a pair's texts may have together.
absl::StatusOr<size_t> RoomOfPair(const TokenizerParts& parts, const PairOptions& options) {
  if (parts.pair.empty()) {
    return absl::FailedPreconditionError("the tokenizer's files do not say how two texts stand together");
  }
  size_t around = 0;
  for (const PairItem& item : parts.pair) around += item.ids.size();
  if (around > options.max_tokens) return TooMany(options);
  return options.max_tokens - around;
}

}  // namespace

std::optional<int32_t> FindToken(const TokenizerParts& parts, absl::string_view content) {
  for (const AddedToken& token : parts.added) {
    if (token.content == content) return token.id;
  }
  return parts.vocabulary->Find(content);
}

absl::Status ApplyTokenizerConfig(absl::string_view text, TokenizerParts* parts) {
  absl::StatusOr<Json> root = ParseJson(text, "the file");
  if (!root.ok()) return root.status();
  JsonFields fields(*root, "");
  // A name is a string or {"content": ...}; a name that stands for no token is transformers' habit of naming tokens
  // that a model never got, and means none.
  const auto apply = [&](const char* name, std::optional<int32_t>* id) {
    const Json* value = fields.AnyOrNull(name);
    if (value != nullptr && value->is_object()) value = value->contains("content") ? &(*value)["content"] : nullptr;
    if (value == nullptr) return;
    if (!value->is_string()) return fields.Fail(name, "is neither a string nor an added token");
    if (const auto found = FindToken(*parts, value->get_ref<const std::string&>())) *id = found;
  };
  apply("bos_token", &parts->bos_id);
  apply("eos_token", &parts->eos_id);
  if (parts->source != "tokenizer.json") {
    const bool add_bos = fields.BoolOr("add_bos_token", !parts->prefix.empty());
    const bool add_eos = fields.BoolOr("add_eos_token", false);
    if (add_bos && !parts->bos_id) fields.Fail("add_bos_token", "is true, but there is no such token");
    if (add_eos && !parts->eos_id) fields.Fail("add_eos_token", "is true, but there is no such token");
    if (fields.ok()) {
      parts->prefix.assign(add_bos ? 1 : 0, parts->bos_id.value_or(0));
      parts->suffix.assign(add_eos ? 1 : 0, parts->eos_id.value_or(0));
    }
    if (parts->source == "vocab.json" && fields.BoolOr("add_prefix_space", false)) {
      parts->words = PreTokenizer::Gpt2(/*add_prefix_space=*/true);
    }
  }
  return fields.status();
}

struct Tokenizer::Impl {
  TokenizerParts parts;
  TokenMatcher raw;
  TokenMatcher normalized;
  std::vector<std::string> bytes;  // by id
  std::vector<bool> special;       // by id
};

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::Load(const std::string& model_folder) {
  const fs::path folder(model_folder);
  std::error_code error;
  if (!fs::is_directory(folder, error)) return absl::NotFoundError(absl::StrCat(model_folder, ": no such folder"));
  absl::StatusOr<TokenizerParts> parts = ReadParts(folder);
  if (!parts.ok()) return parts.status();
  const fs::path config = folder / "tokenizer_config.json";
  if (fs::exists(config, error)) {
    absl::StatusOr<std::string> text = ReadFile(config);
    if (!text.ok()) return text.status();
    if (absl::Status status = ApplyTokenizerConfig(*text, &*parts); !status.ok()) return In(config, status);
  }
  absl::StatusOr<std::shared_ptr<const Tokenizer>> tokenizer = FromParts(*std::move(parts));
  if (!tokenizer.ok()) return In(folder, tokenizer.status());
  return tokenizer;
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::FromParts(TokenizerParts parts) {
  absl::StatusOr<TokenMatcher> raw = MakeMatcher(parts, false);
  if (!raw.ok()) return raw.status();
  absl::StatusOr<TokenMatcher> normalized = MakeMatcher(parts, true);
  if (!normalized.ok()) return normalized.status();

  int32_t size = parts.vocabulary->size();
  for (const AddedToken& token : parts.added) size = std::max(size, token.id + 1);
  std::vector<std::string> bytes(static_cast<size_t>(size));
  std::vector<bool> special(static_cast<size_t>(size), false);
  for (int32_t id = 0; id < parts.vocabulary->size(); ++id) {
    if (const std::string* piece = parts.vocabulary->Piece(id)) bytes[id] = parts.decoder.Bytes(*piece, false);
  }
  for (const AddedToken& token : parts.added) {
    bytes[token.id] = parts.decoder.Bytes(token.content, false);
    special[token.id] = token.special;
  }
  for (const std::vector<int32_t>* around : {&parts.prefix, &parts.suffix}) {
    for (int32_t id : *around) {
      if (id >= size) {
        return absl::InvalidArgumentError(
            absl::StrCat("id ", id, ", which is put around prompts, is not in the vocabulary of ", size));
      }
    }
  }
  auto impl = std::make_unique<const Impl>(
      Impl{std::move(parts), *std::move(raw), *std::move(normalized), std::move(bytes), std::move(special)});
  return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(impl)));
}

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(absl::string_view text, const EncodeOptions& options) const {
  if (const std::optional<size_t> bad = FindInvalidUtf8(text)) {
    return absl::InvalidArgumentError(absl::StrCat("the text is no valid UTF-8 at byte ", *bad));
  }
  const auto too_many = [&] {
    return absl::OutOfRangeError(absl::StrCat("more than ", options.max_tokens, " tokens"));
  };
  const TokenizerParts& parts = impl_->parts;
  std::vector<int32_t> ids;
  size_t max_ids = options.max_tokens;
  if (options.add_special_tokens) {
    if (parts.prefix.size() + parts.suffix.size() > max_ids) return too_many();
    ids = parts.prefix;
    max_ids -= parts.suffix.size();
  }
  absl::Status status = impl_->raw.Split(
      text, options.parse_special, options.plain,
      [&](absl::string_view stretch, size_t offset) { return EncodeStretch(stretch, offset, options, max_ids, &ids); },
      [&](const AddedToken& token) {
        if (ids.size() >= options.stop_after) return Enough();
        if (ids.size() >= max_ids) return too_many();
        ids.push_back(token.id);
        return absl::OkStatus();
      });
  if (absl::IsCancelled(status)) status = absl::OkStatus();
  // The limit of the caller, not what was left of it here.
  if (absl::IsOutOfRange(status)) return too_many();
  if (!status.ok()) return status;
  if (options.add_special_tokens) ids.insert(ids.end(), parts.suffix.begin(), parts.suffix.end());
  return ids;
}

absl::StatusOr<EncoderInput> Tokenizer::EncodeForEncoder(absl::string_view first,
                                                         const std::optional<absl::string_view>& second,
                                                         const PairOptions& options) const {
  if (second) {
    const absl::StatusOr<std::vector<int32_t>> ids = EncodeFirst(first, options);
    return ids.ok() ? EncodePair(*ids, *second, options) : absl::StatusOr<EncoderInput>(ids.status());
  }
  const TokenizerParts& parts = impl_->parts;
  const size_t around = parts.prefix.size() + parts.suffix.size();
  if (around > options.max_tokens) return TooMany(options);
  const size_t room = options.max_tokens - around;
  absl::StatusOr<std::vector<int32_t>> ids = Encode(first, PartOfInput(options, room, room));
  if (absl::IsOutOfRange(ids.status())) return TooMany(options);
  if (!ids.ok()) return ids.status();
  EncoderInput input;
  input.truncated = ids->size() > room;
  if (input.truncated) ids->resize(room);
  input.ids = parts.prefix;
  input.ids.insert(input.ids.end(), ids->begin(), ids->end());
  input.ids.insert(input.ids.end(), parts.suffix.begin(), parts.suffix.end());
  return input;
}

// How many ids the first text has decides which of the two gives way, so they are all needed.
absl::StatusOr<std::vector<int32_t>> Tokenizer::EncodeFirst(absl::string_view first, const PairOptions& options) const {
  const absl::StatusOr<size_t> room = RoomOfPair(impl_->parts, options);
  if (!room.ok()) return room.status();
  auto ids = Encode(first, PartOfInput(options, *room, std::numeric_limits<size_t>::max()));
  if (absl::IsOutOfRange(ids.status())) return TooMany(options);
  return ids;
}

absl::StatusOr<EncoderInput> Tokenizer::EncodePair(absl::Span<const int32_t> first, absl::string_view second,
                                                   const PairOptions& options) const {
  const absl::StatusOr<size_t> room = RoomOfPair(impl_->parts, options);
  if (!room.ok()) return room.status();
  // Beyond what there is room for, and beyond the first text's length, it makes no difference how long the second is.
  auto ids = Encode(second, PartOfInput(options, *room, std::max(*room, first.size())));
  if (absl::IsOutOfRange(ids.status())) return TooMany(options);
  if (!ids.ok()) return ids.status();
  size_t keep[2] = {first.size(), ids->size()};
  EncoderInput input;
  if (keep[0] + keep[1] > *room) {
    if (!options.truncate) return TooMany(options);
    input.truncated = true;
    // The shorter text stays whole where the longer one alone can give way.
    size_t& shorter = keep[0] <= keep[1] ? keep[0] : keep[1];
    size_t& longer = &shorter == &keep[0] ? keep[1] : keep[0];
    if (shorter * 2 > *room) shorter = *room / 2;
    longer = *room - shorter;
  }
  for (const PairItem& item : impl_->parts.pair) {
    if (item.type == 1 && input.second_at == 0) input.second_at = input.ids.size();
    absl::Span<const int32_t> from = item.ids;
    if (item.what == PairItem::What::kFirstText) from = first.subspan(0, keep[0]);
    if (item.what == PairItem::What::kSecondText) from = absl::MakeConstSpan(*ids).subspan(0, keep[1]);
    input.ids.insert(input.ids.end(), from.begin(), from.end());
  }
  return input;
}

// Tokens that are looked for after normalization cannot be told apart by where they stood before it. So a stretch in
// whose plain bytes there is one is encoded in pieces, plain and not plain; any other as a whole.
absl::Status Tokenizer::EncodeStretch(absl::string_view text, size_t offset, const EncodeOptions& options,
                                      size_t max_ids, std::vector<int32_t>* ids) const {
  const TokenizerParts& parts = impl_->parts;
  const auto normalize = [&](absl::string_view piece, std::string* buffer) -> absl::StatusOr<absl::string_view> {
    if (parts.normalizer.empty()) return piece;
    absl::StatusOr<std::string> normalized = parts.normalizer.Apply(piece);
    if (!normalized.ok()) return normalized.status();
    *buffer = *std::move(normalized);
    return absl::string_view(*buffer);
  };
  const auto encode = [&](absl::string_view piece, bool starts_prompt, bool parse_special) {
    std::string buffer;
    const auto normalized = normalize(piece, &buffer);
    return normalized.ok()
               ? EncodeNormalized(*normalized, starts_prompt, parse_special, max_ids, options.stop_after, ids)
               : normalized.status();
  };
  std::vector<Range> plain;  // within `text`
  bool has_special = false;
  for (const Range& range : options.plain) {
    if (range.end <= offset || range.begin >= offset + text.size() || impl_->normalized.empty()) continue;
    plain.push_back({std::max(range.begin, offset) - offset, std::min(range.end - offset, text.size())});
    std::string buffer;
    const auto piece = normalize(text.substr(plain.back().begin, plain.back().end - plain.back().begin), &buffer);
    if (!piece.ok()) return piece.status();
    const auto ignore = [](absl::string_view, size_t) { return absl::OkStatus(); };
    const auto note = [&](const AddedToken& token) {
      has_special = has_special || token.special;
      return absl::OkStatus();
    };
    if (absl::Status status = impl_->normalized.Split(*piece, true, {}, ignore, note); !status.ok()) return status;
  }
  if (!has_special || !options.parse_special) return encode(text, offset == 0, options.parse_special);
  size_t done = 0;
  for (const Range& range : plain) {
    if (range.begin > done) {
      absl::Status status = encode(text.substr(done, range.begin - done), offset + done == 0, true);
      if (!status.ok()) return status;
    }
    absl::Status status = encode(text.substr(range.begin, range.end - range.begin), offset + range.begin == 0, false);
    if (!status.ok()) return status;
    done = range.end;
  }
  return done < text.size() ? encode(text.substr(done), false, true) : absl::OkStatus();
}

absl::Status Tokenizer::EncodeNormalized(absl::string_view text, bool starts_prompt, bool parse_special, size_t max_ids,
                                         size_t stop_after, std::vector<int32_t>* ids) const {
  const TokenizerParts& parts = impl_->parts;
  const auto encode_words = [&](absl::string_view stretch, size_t offset) -> absl::Status {
    if (ids->size() >= stop_after) return Enough();
    if (const auto* words = std::get_if<SentencePieceText>(&parts.words)) {
      const SentencePieceText::Word word = words->Spell(stretch);
      return parts.bpe->Encode(word.text, word.frozen, max_ids, ids);
    }
    return std::get<PreTokenizer>(parts.words).Run(stretch, starts_prompt && offset == 0, [&](absl::string_view word) {
      if (ids->size() >= stop_after) return Enough();
      if (parts.word_piece != nullptr) return parts.word_piece->Encode(word, max_ids, ids);
      if (parts.unigram != nullptr) return parts.unigram->Encode(word, max_ids, ids);
      return parts.bpe->Encode(word, {}, max_ids, ids);
    });
  };
  return impl_->normalized.Split(text, parse_special, {}, encode_words, [&](const AddedToken& token) {
    if (ids->size() >= stop_after) return Enough();
    if (ids->size() >= max_ids) return absl::OutOfRangeError("more tokens than allowed");
    ids->push_back(token.id);
    return absl::OkStatus();
  });
}

std::string Tokenizer::Decode(absl::Span<const int32_t> ids, bool skip_special_tokens) const {
  DetokenizeOptions options;
  options.skip_special_tokens = skip_special_tokens;
  IncrementalDetokenizer detokenizer(*this, options);
  std::string text;
  for (int32_t id : ids) detokenizer.Append(id, &text);
  detokenizer.Flush(&text);
  return text;
}

int32_t Tokenizer::vocab_size() const { return static_cast<int32_t>(impl_->bytes.size()); }
std::optional<int32_t> Tokenizer::bos_id() const { return impl_->parts.bos_id; }
std::optional<int32_t> Tokenizer::eos_id() const { return impl_->parts.eos_id; }
absl::string_view Tokenizer::source() const { return impl_->parts.source; }

bool Tokenizer::IsSpecial(int32_t id) const { return id >= 0 && id < vocab_size() && impl_->special[id]; }

absl::string_view Tokenizer::TokenBytes(int32_t id) const {
  return id >= 0 && id < vocab_size() ? absl::string_view(impl_->bytes[id]) : absl::string_view();
}

bool Tokenizer::HasText(absl::Span<const int32_t> ids) const {
  return std::any_of(ids.begin(), ids.end(), [&](int32_t id) { return !IsSpecial(id) && !TokenBytes(id).empty(); });
}

TextStart Tokenizer::text_start() const {
  const Decoder& decoder = impl_->parts.decoder;
  return {decoder.first_differs(), decoder.strip_start(), decoder.strip_char()};
}

std::string Tokenizer::FirstTokenBytes(int32_t id) const {
  if (id < 0 || id >= vocab_size()) return {};
  const TokenizerParts& parts = impl_->parts;
  if (const std::string* piece = parts.vocabulary->Piece(id)) return parts.decoder.Bytes(*piece, true);
  for (const AddedToken& token : parts.added) {
    if (token.id == id) return parts.decoder.Bytes(token.content, true);
  }
  return {};
}

}  // namespace tandem::tokenizer
