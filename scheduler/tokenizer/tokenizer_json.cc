// Reads tokenizer.json. The file is a program in parts; each part has its own reader, this one puts them together.
#include <algorithm>
#include <cmath>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "scheduler/tokenizer/json_fields.h"
#include "scheduler/tokenizer/post_processor.h"
#include "scheduler/tokenizer/tokenizer_parts.h"

namespace tandem::tokenizer {
namespace {

absl::StatusOr<std::shared_ptr<const Vocabulary>> ReadVocabulary(const Json& value, const std::string& path) {
  auto vocabulary = std::make_shared<Vocabulary>();
  for (const auto& [piece, id] : value.items()) {
    if (!id.is_number_integer() || (id.is_number_unsigned() && id.get<uint64_t>() > INT64_MAX)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, "[", QuotePiece(piece), "] is ", id.type_name(), ", it must be a token id"));
    }
    absl::Status status = vocabulary->Add(piece, id.get<int64_t>());
    if (!status.ok()) return absl::InvalidArgumentError(absl::StrCat(path, ": ", status.message()));
  }
  if (vocabulary->size() == 0) return absl::InvalidArgumentError(absl::StrCat(path, " is empty"));
  return std::shared_ptr<const Vocabulary>(std::move(vocabulary));
}

// A merge is "left right", or since tokenizers 0.20 ["left", "right"], which leaves spaces to the pieces.
absl::StatusOr<std::vector<Bpe::Merge>> ReadMerges(const Json& value, const std::string& path) {
  std::vector<Bpe::Merge> merges;
  merges.reserve(value.size());
  for (size_t i = 0; i < value.size(); ++i) {
    const Json& entry = value[i];
    if (entry.is_string()) {
      const std::vector<absl::string_view> sides = absl::StrSplit(entry.get_ref<const std::string&>(), ' ');
      if (i == 0 && sides[0] == "#version:") continue;
      if (sides.size() == 2) {
        merges.push_back({sides[0], sides[1]});
        continue;
      }
    } else if (entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string()) {
      merges.push_back({entry[0].get_ref<const std::string&>(), entry[1].get_ref<const std::string&>()});
      continue;
    }
    return absl::InvalidArgumentError(absl::StrCat(path, "[", i, "] is no pair of pieces"));
  }
  return merges;
}

absl::Status ReadWordPiece(JsonFields* fields, TokenizerParts* parts) {
  constexpr int64_t kMostWordChars = 10'000;  // files in use say 100
  WordPiece::Options options;
  options.continuing_prefix = fields->StringOr("continuing_subword_prefix", "##");
  const int64_t most = fields->Int("max_input_chars_per_word");
  if (fields->ok() && (most < 1 || most > kMostWordChars)) {
    fields->Fail("max_input_chars_per_word", absl::StrCat("is ", most, ", it must be 1 to ", kMostWordChars));
  }
  options.max_word_chars = static_cast<size_t>(most);
  const std::string unk_token = fields->String("unk_token");
  const Json* vocab = fields->Object("vocab");
  if (absl::Status status = fields->Finish(); !status.ok()) return status;
  absl::StatusOr<std::shared_ptr<const Vocabulary>> vocabulary = ReadVocabulary(*vocab, "model.vocab");
  if (!vocabulary.ok()) return vocabulary.status();
  parts->vocabulary = *std::move(vocabulary);
  const std::optional<int32_t> unk_id = parts->vocabulary->Find(unk_token);
  if (!unk_id) {
    return absl::InvalidArgumentError(
        absl::StrCat("model.unk_token ", QuotePiece(unk_token), " is not in model.vocab"));
  }
  options.unk_id = *unk_id;
  parts->word_piece = std::make_shared<const WordPiece>(parts->vocabulary, std::move(options));
  return absl::OkStatus();
}

// "vocab" is a list of pieces with their scores here; a piece's place is its id.
absl::Status ReadUnigram(JsonFields* fields, TokenizerParts* parts) {
  Unigram::Options options;
  options.byte_fallback = fields->BoolOr("byte_fallback", false);
  const Json* unk = fields->AnyOrNull("unk_id");
  const Json* list = fields->Array("vocab");
  if (absl::Status status = fields->Finish(); !status.ok()) return status;
  auto vocabulary = std::make_shared<Vocabulary>();
  std::vector<double> scores;
  for (size_t i = 0; i < list->size(); ++i) {
    const Json& entry = (*list)[i];
    const bool pair = entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_number();
    if (!pair || !std::isfinite(entry[1].get<double>())) {
      return absl::InvalidArgumentError(absl::StrCat("model.vocab[", i, "] is no piece with its score"));
    }
    absl::Status status = vocabulary->Add(entry[0].get_ref<const std::string&>(), static_cast<int64_t>(i));
    if (!status.ok()) return absl::InvalidArgumentError(absl::StrCat("model.vocab: ", status.message()));
    scores.push_back(entry[1].get<double>());
  }
  if (scores.empty()) return absl::InvalidArgumentError("model.vocab is empty");
  if (unk != nullptr) {
    if (!unk->is_number_unsigned() || unk->get<uint64_t>() >= scores.size()) {
      return absl::InvalidArgumentError("model.unk_id is no place in model.vocab");
    }
    options.unk_id = unk->get<int32_t>();
  }
  parts->vocabulary = std::move(vocabulary);
  parts->unigram = std::make_shared<const Unigram>(parts->vocabulary, std::move(scores), options);
  return absl::OkStatus();
}

absl::Status ReadModel(const Json& value, TokenizerParts* parts) {
  JsonFields fields(value, "model");
  const std::string type = fields.StringOr("type", "BPE");  // Files before tokenizers 0.5 leave it out.
  if (fields.ok() && type == "WordPiece") return ReadWordPiece(&fields, parts);
  if (fields.ok() && type == "Unigram") return ReadUnigram(&fields, parts);
  if (fields.ok() && type != "BPE") {
    return absl::UnimplementedError(
        absl::StrCat("model: type ", QuotePiece(type), " is not supported, only BPE, WordPiece and Unigram are"));
  }
  if (const Json* dropout = fields.AnyOrNull("dropout"); dropout != nullptr && *dropout != 0.0) {
    fields.Fail("dropout", "is not supported: equal prompts must give equal ids");
  }
  if (!fields.StringOr("continuing_subword_prefix", "").empty()) {
    fields.Fail("continuing_subword_prefix", "is not supported");
  }
  BpeOptions options;
  options.word_end = fields.StringOr("end_of_word_suffix", "");
  options.fuse_unk = fields.BoolOr("fuse_unk", false);
  options.byte_fallback = fields.BoolOr("byte_fallback", false);
  options.ignore_merges = fields.BoolOr("ignore_merges", false);
  if (options.byte_fallback && !options.word_end.empty()) {
    fields.Fail("byte_fallback", "is not supported together with end_of_word_suffix");
  }
  const std::string unk_token = fields.StringOr("unk_token", "");
  const Json* vocab = fields.Object("vocab");
  const Json* merge_list = fields.Array("merges");
  if (absl::Status status = fields.Finish(); !status.ok()) return status;

  absl::StatusOr<std::shared_ptr<const Vocabulary>> vocabulary = ReadVocabulary(*vocab, "model.vocab");
  if (!vocabulary.ok()) return vocabulary.status();
  parts->vocabulary = *std::move(vocabulary);
  if (!unk_token.empty()) {
    options.unk_id = parts->vocabulary->Find(unk_token);
    if (!options.unk_id) {
      return absl::InvalidArgumentError(
          absl::StrCat("model.unk_token ", QuotePiece(unk_token), " is not in model.vocab"));
    }
  }
  absl::StatusOr<std::vector<Bpe::Merge>> merges = ReadMerges(*merge_list, "model.merges");
  if (!merges.ok()) return merges.status();
  absl::StatusOr<Bpe> bpe = Bpe::FromMerges(parts->vocabulary, *merges, options);
  if (!bpe.ok()) return absl::InvalidArgumentError(absl::StrCat("model.merges: ", bpe.status().message()));
  parts->bpe = std::make_shared<const Bpe>(*std::move(bpe));
  return absl::OkStatus();
}

// An added token is either one of the model's pieces, then under that id, or new, then under an id that is free.
absl::Status ReadAddedTokens(const Json& list, TokenizerParts* parts) {
  absl::flat_hash_set<std::string> contents;
  absl::flat_hash_set<int32_t> ids;
  for (size_t i = 0; i < list.size(); ++i) {
    JsonFields fields(list[i], absl::StrCat("added_tokens[", i, "]"));
    AddedToken token;
    const int64_t id = fields.Int("id");
    token.content = fields.String("content");
    token.special = fields.Bool("special");
    token.normalized = fields.Bool("normalized");
    token.single_word = fields.Bool("single_word");
    token.lstrip = fields.Bool("lstrip");
    token.rstrip = fields.Bool("rstrip");
    if (fields.ok()) {
      if (id < 0 || id > Vocabulary::kMaxId) {
        fields.Fail("id", absl::StrCat("is ", id, ", outside [0, ", Vocabulary::kMaxId, "]"));
      } else if (token.content.empty()) {
        fields.Fail("content", "is empty");
      } else if (token.content.size() > Vocabulary::kMaxPieceBytes) {
        fields.Fail("content", absl::StrCat("has more than ", Vocabulary::kMaxPieceBytes, " bytes"));
      } else if (!contents.insert(token.content).second || !ids.insert(static_cast<int32_t>(id)).second) {
        fields.Fail("content", absl::StrCat(QuotePiece(token.content), " or its id ", id, " is there twice"));
      } else {
        const std::optional<int32_t> in_model = parts->vocabulary->Find(token.content);
        const std::string* owner = parts->vocabulary->Piece(id);
        if (in_model ? *in_model != id : owner != nullptr) {
          fields.Fail("id", absl::StrCat("is ", id, " for ", QuotePiece(token.content), ", but model.vocab has ",
                                         in_model ? absl::StrCat(*in_model) : QuotePiece(*owner), " there"));
        }
      }
    }
    if (absl::Status status = fields.Finish(); !status.ok()) return status;
    token.id = static_cast<int32_t>(id);
    parts->added.push_back(std::move(token));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerParts> ParseTokenizerJson(absl::string_view text) {
  absl::StatusOr<Json> root = ParseJson(text, "the file");
  if (!root.ok()) return root.status();
  JsonFields fields(*root, "");
  if (const std::string version = fields.String("version"); fields.ok() && version != "1.0") {
    return absl::UnimplementedError(
        absl::StrCat("version ", QuotePiece(version), " is not supported, only \"1.0\" is"));
  }
  // Settings of a training run; every caller of the reference resets them, so they are no part of the vocabulary.
  fields.Ignore("truncation");
  fields.Ignore("padding");
  const Json* added = fields.AnyOrNull("added_tokens");
  if (added != nullptr && !added->is_array()) fields.Fail("added_tokens", "must be an array");
  const Json* normalizer = fields.AnyOrNull("normalizer");
  const Json* pre_tokenizer = fields.AnyOrNull("pre_tokenizer");
  const Json* post_processor = fields.AnyOrNull("post_processor");
  const Json* decoder = fields.Any("decoder");
  const Json* model = fields.Object("model");
  if (absl::Status status = fields.Finish(); !status.ok()) return status;

  TokenizerParts parts;
  parts.source = "tokenizer.json";
  if (absl::Status status = ReadModel(*model, &parts); !status.ok()) return status;
  if (added != nullptr) {
    if (absl::Status status = ReadAddedTokens(*added, &parts); !status.ok()) return status;
  }
  if (normalizer != nullptr) {
    absl::StatusOr<Normalizer> parsed = Normalizer::Parse(*normalizer);
    if (!parsed.ok()) return parsed.status();
    parts.normalizer = *std::move(parsed);
  }
  if (pre_tokenizer != nullptr) {
    absl::StatusOr<PreTokenizer> parsed = PreTokenizer::Parse(*pre_tokenizer);
    if (!parsed.ok()) return parsed.status();
    parts.words = *std::move(parsed);
  }
  if (post_processor != nullptr) {
    absl::StatusOr<Surround> parsed = ParsePostProcessor(*post_processor);
    if (!parsed.ok()) return parsed.status();
    parts.prefix = std::move(parsed->prefix);
    parts.suffix = std::move(parsed->suffix);
    parts.pair = std::move(parsed->pair);
  }
  absl::StatusOr<Decoder> parsed = Decoder::Parse(*decoder);
  if (!parsed.ok()) return parsed.status();
  parts.decoder = *std::move(parsed);
  if (parts.bpe != nullptr && !parts.bpe->word_end().empty()) parts.decoder.EndWords(parts.bpe->word_end());
  return parts;
}

}  // namespace tandem::tokenizer
