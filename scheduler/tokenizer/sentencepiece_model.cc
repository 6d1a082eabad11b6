// Reads SentencePiece's tokenizer.model: a protobuf of pieces, of which a dozen fields matter here.
//
// libsentencepiece would read it as well, but its header declares an `absl` of its own beside ours, it prints to
// stderr, and it answers in text where a stream needs bytes. What is used of the format is small and frozen: three
// messages, below.
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "scheduler/tokenizer/tokenizer_parts.h"
#include "scheduler/tokenizer/utf8.h"
#include "scheduler/tokenizer/vocabulary.h"

namespace tandem::tokenizer {
namespace {

// One field of a protobuf message. `bytes` counts for lengths and fixed widths, `varint` otherwise.
struct WireField {
  uint32_t number;
  enum Type : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 } type;
  uint64_t varint;
  absl::string_view bytes;
};

class WireReader {
 public:
  explicit WireReader(absl::string_view message) : rest_(message) {}

  bool done() const { return rest_.empty(); }

  // False: not a protobuf, or cut short.
  bool Next(WireField* field) {
    uint64_t tag = 0;
    if (!Varint(&tag) || tag >> 3 == 0 || tag >> 3 > (1u << 29)) return false;
    field->number = static_cast<uint32_t>(tag >> 3);
    field->type = static_cast<WireField::Type>(tag & 7);
    uint64_t length = 0;
    switch (field->type) {
      case WireField::kVarint:
        return Varint(&field->varint);
      case WireField::kFixed64:
        return Take(8, &field->bytes);
      case WireField::kBytes:
        return Varint(&length) && Take(length, &field->bytes);
      case WireField::kFixed32:
        return Take(4, &field->bytes);
    }
    return false;
  }

 private:
  bool Take(uint64_t length, absl::string_view* out) {
    if (length > rest_.size()) return false;
    *out = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return true;
  }

  bool Varint(uint64_t* value) {
    *value = 0;
    for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const uint8_t byte = static_cast<uint8_t>(rest_[0]);
      rest_.remove_prefix(1);
      *value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  absl::string_view rest_;
};

enum class PieceType : uint64_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

struct Piece {
  absl::string_view text;
  float score = 0;
  PieceType type = PieceType::kNormal;
};

struct Model {
  std::vector<Piece> pieces;
  // TrainerSpec
  uint64_t model_type = 1;
  bool whitespace_is_suffix = false;
  bool byte_fallback = false;
  int32_t unk_id = 0;
  int32_t bos_id = 1;
  int32_t eos_id = 2;
  // NormalizerSpec
  absl::string_view rule_name;
  bool has_rules = false;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  bool has_denormalizer = false;
};

bool ReadPiece(absl::string_view message, Piece* piece) {
  WireReader reader(message);
  WireField field;
  while (!reader.done()) {
    if (!reader.Next(&field)) return false;
    if (field.number == 1 && field.type == WireField::kBytes) piece->text = field.bytes;
    if (field.number == 2 && field.type == WireField::kFixed32) std::memcpy(&piece->score, field.bytes.data(), 4);
    if (field.number == 3 && field.type == WireField::kVarint) piece->type = static_cast<PieceType>(field.varint);
  }
  return true;
}

bool ReadTrainerSpec(absl::string_view message, Model* model) {
  WireReader reader(message);
  WireField field;
  while (!reader.done()) {
    if (!reader.Next(&field)) return false;
    if (field.type != WireField::kVarint) continue;
    const auto id = static_cast<int32_t>(field.varint);  // A missing token is -1, ten bytes on the wire.
    switch (field.number) {
      case 3:
        model->model_type = field.varint;
        break;
      case 24:
        model->whitespace_is_suffix = field.varint != 0;
        break;
      case 35:
        model->byte_fallback = field.varint != 0;
        break;
      case 40:
        model->unk_id = id;
        break;
      case 41:
        model->bos_id = id;
        break;
      case 42:
        model->eos_id = id;
        break;
    }
  }
  return true;
}

bool ReadNormalizerSpec(absl::string_view message, Model* model) {
  WireReader reader(message);
  WireField field;
  while (!reader.done()) {
    if (!reader.Next(&field)) return false;
    if (field.number == 1 && field.type == WireField::kBytes) model->rule_name = field.bytes;
    if (field.number == 2 && field.type == WireField::kBytes) model->has_rules |= !field.bytes.empty();
    if (field.type != WireField::kVarint) continue;
    if (field.number == 3) model->add_dummy_prefix = field.varint != 0;
    if (field.number == 4) model->remove_extra_whitespaces = field.varint != 0;
    if (field.number == 5) model->escape_whitespaces = field.varint != 0;
  }
  return true;
}

absl::StatusOr<Model> ReadModel(absl::string_view bytes) {
  Model model;
  WireReader reader(bytes);
  WireField field;
  const auto broken = [] {
    return absl::InvalidArgumentError("no SentencePiece model: the protobuf is cut short or damaged");
  };
  while (!reader.done()) {
    if (!reader.Next(&field)) return broken();
    if (field.type != WireField::kBytes) continue;
    bool ok = true;
    switch (field.number) {
      case 1:
        ok = ReadPiece(field.bytes, &model.pieces.emplace_back());
        break;
      case 2:
        ok = ReadTrainerSpec(field.bytes, &model);
        break;
      case 3:
        ok = ReadNormalizerSpec(field.bytes, &model);
        break;
      case 5: {
        Model denormalizer;
        ok = ReadNormalizerSpec(field.bytes, &denormalizer);
        model.has_denormalizer = denormalizer.has_rules;
        break;
      }
    }
    if (!ok) return broken();
  }
  if (model.pieces.empty()) return absl::InvalidArgumentError("no SentencePiece model: it has no pieces");
  return model;
}

// What would change ids or text in a way that is not implemented.
absl::Status RefuseUnknown(const Model& model) {
  const auto refuse = [](absl::string_view what) {
    return absl::UnimplementedError(absl::StrCat("SentencePiece: ", what, " is not supported"));
  };
  if (model.model_type != 2) return refuse(absl::StrCat("model type ", model.model_type, " (only BPE, 2)"));
  if (model.has_rules)
    return refuse(absl::StrCat("the normalization ", QuotePiece(model.rule_name), " (only identity)"));
  if (model.has_denormalizer) return refuse("a denormalizer");
  if (!model.escape_whitespaces) return refuse("escape_whitespaces=false");
  if (model.whitespace_is_suffix) return refuse("treat_whitespace_as_suffix");
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const Piece& piece = model.pieces[id];
    if (piece.type < PieceType::kNormal || piece.type > PieceType::kByte || piece.type == PieceType::kUnused) {
      return refuse(absl::StrCat("piece ", id, " of type ", static_cast<uint64_t>(piece.type)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerParts> ParseSentencePieceModel(absl::string_view bytes) {
  const absl::StatusOr<Model> model = ReadModel(bytes);
  if (!model.ok()) return model.status();
  if (absl::Status status = RefuseUnknown(*model); !status.ok()) return status;

  TokenizerParts parts;
  parts.source = "tokenizer.model";
  auto vocabulary = std::make_shared<Vocabulary>();
  std::vector<float> scores;
  std::vector<bool> mergeable;
  std::vector<AddedToken> user_defined;
  for (size_t id = 0; id < model->pieces.size(); ++id) {
    const Piece& piece = model->pieces[id];
    if (piece.text.empty() || FindInvalidUtf8(piece.text)) {
      return absl::InvalidArgumentError(absl::StrCat("piece ", id, " is empty or no valid UTF-8"));
    }
    if (std::isnan(piece.score)) return absl::InvalidArgumentError(absl::StrCat("the score of piece ", id, " is NaN"));
    if (piece.type == PieceType::kByte && !ParseBytePiece(piece.text)) {
      return absl::InvalidArgumentError(absl::StrCat("piece ", id, " is of type BYTE and not spelled <0xXX>"));
    }
    absl::Status status = vocabulary->Add(piece.text, static_cast<int64_t>(id));
    if (!status.ok()) return status;
    scores.push_back(piece.score);
    mergeable.push_back(piece.type == PieceType::kNormal);
    AddedToken token;
    token.id = static_cast<int32_t>(id);
    token.content = std::string(piece.text);
    if (piece.type == PieceType::kUserDefined) user_defined.push_back(token);
    if (piece.type == PieceType::kControl || piece.type == PieceType::kUnknown) {
      token.special = true;
      parts.added.push_back(std::move(token));
    }
  }
  const auto of_type = [&](int32_t id, PieceType type) {
    return id >= 0 && static_cast<size_t>(id) < model->pieces.size() && model->pieces[id].type == type;
  };
  if (!of_type(model->unk_id, PieceType::kUnknown)) {
    return absl::InvalidArgumentError(absl::StrCat("unk_id ", model->unk_id, " is no piece of type UNKNOWN"));
  }
  if (of_type(model->bos_id, PieceType::kControl)) parts.bos_id = model->bos_id;
  if (of_type(model->eos_id, PieceType::kControl)) parts.eos_id = model->eos_id;
  // The models that ship this file (Llama, Mistral) are trained with the begin token; tokenizer_config.json may differ.
  if (parts.bos_id) parts.prefix.push_back(*parts.bos_id);

  BpeOptions options;
  options.unk_id = model->unk_id;
  options.fuse_unk = true;
  options.byte_fallback = model->byte_fallback;
  parts.vocabulary = std::move(vocabulary);
  parts.bpe = std::make_shared<const Bpe>(Bpe::FromScores(parts.vocabulary, scores, mergeable, options));
  SentencePieceText words;
  words.add_dummy_prefix = model->add_dummy_prefix;
  words.remove_extra_whitespaces = model->remove_extra_whitespaces;
  if (!user_defined.empty()) words.user_defined = std::make_shared<const TokenMatcher>(std::move(user_defined));
  parts.words = std::move(words);
  parts.decoder = Decoder::SentencePiece(model->add_dummy_prefix || model->remove_extra_whitespaces ? 1 : 0);
  return parts;
}

}  // namespace tandem::tokenizer
