#include "scheduler/tokenizer/normalizer.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "scheduler/tokenizer/utf8.h"
#include "scheduler/tokenizer/vocabulary.h"

namespace tandem::tokenizer {
namespace {

constexpr int kMaxDepth = 8;  // sequences inside sequences; files in use have one level

// A replacement may grow the text at every match; a prompt must not become a memory bomb.
constexpr size_t kMaxNormalizedBytes = 256 << 20;

}  // namespace

absl::StatusOr<Normalizer> Normalizer::Parse(const Json& value) {
  Normalizer normalizer;
  if (absl::Status status = normalizer.Add(value, "normalizer", 0); !status.ok()) return status;
  return normalizer;
}

absl::Status Normalizer::Add(const Json& value, const std::string& path, int depth) {
  JsonFields fields(value, path);
  const std::string type = fields.String("type");
  if (type == "Sequence") {
    if (depth == kMaxDepth) return absl::InvalidArgumentError(absl::StrCat(path, " is nested too deeply"));
    if (const Json* list = fields.Array("normalizers")) {
      for (size_t i = 0; i < list->size(); ++i) {
        absl::Status status = Add((*list)[i], absl::StrCat(path, ".normalizers[", i, "]"), depth + 1);
        if (!status.ok()) return status;
      }
    }
  } else if (type == "NFC") {
    steps_.push_back(Form{NormalForm::kNfc});
  } else if (type == "NFD") {
    steps_.push_back(Form{NormalForm::kNfd});
  } else if (type == "NFKC") {
    steps_.push_back(Form{NormalForm::kNfkc});
  } else if (type == "NFKD") {
    steps_.push_back(Form{NormalForm::kNfkd});
  } else if (type == "Lowercase") {
    steps_.push_back(Lower{});
  } else if (type == "StripAccents") {
    steps_.push_back(Unaccent{});
  } else if (type == "Prepend") {
    steps_.push_back(Prepend{fields.String("prepend")});
  } else if (type == "Replace") {
    absl::StatusOr<Pattern> pattern = Pattern::Parse(&fields, "pattern");
    if (!pattern.ok()) return pattern.status();
    steps_.push_back(Replace{*std::move(pattern), fields.String("content")});
  } else if (type == "Precompiled") {
    std::string bytes;
    if (!absl::Base64Unescape(fields.String("precompiled_charsmap"), &bytes)) {
      fields.Fail("precompiled_charsmap", "is no base64");
    } else if (fields.ok()) {
      absl::StatusOr<Charsmap> map = Charsmap::Parse(bytes);
      if (!map.ok()) return absl::InvalidArgumentError(absl::StrCat(path, ": ", map.status().message()));
      steps_.push_back(*std::move(map));
    }
  } else if (type == "Strip") {
    const bool left = fields.Bool("strip_left");
    steps_.push_back(Strip{left, fields.Bool("strip_right")});
  } else if (type == "BertNormalizer") {
    Bert bert{};
    bert.clean = fields.Bool("clean_text");
    bert.chinese = fields.Bool("handle_chinese_chars");
    bert.lowercase = fields.Bool("lowercase");
    bert.strip_accents = fields.BoolOr("strip_accents", bert.lowercase);
    steps_.push_back(bert);
  } else if (fields.ok()) {
    return absl::UnimplementedError(absl::StrCat(path, ": normalizer ", QuotePiece(type), " is not supported"));
  }
  return fields.Finish();
}

absl::StatusOr<std::string> Normalizer::Apply(absl::string_view utf8) const {
  std::string text(utf8);
  for (const Step& step : steps_) {
    if (absl::Status status = Run(step, &text); !status.ok()) return status;
  }
  return text;
}

absl::Status Normalizer::Run(const Step& step, std::string* text) {
  if (const auto* form = std::get_if<Form>(&step)) {
    *text = Normalize(form->form, *text);
  } else if (std::holds_alternative<Lower>(step)) {
    *text = Lowercase(*text);
  } else if (const auto* map = std::get_if<Charsmap>(&step)) {
    *text = map->Apply(*text);
  } else if (std::holds_alternative<Unaccent>(step)) {
    *text = StripAccents(*text);
  } else if (const auto* bert = std::get_if<Bert>(&step)) {
    if (bert->clean || bert->chinese) *text = CleanForBert(*text, bert->clean, bert->chinese);
    if (bert->strip_accents) *text = StripNonSpacingMarks(Normalize(NormalForm::kNfd, *text));
    if (bert->lowercase) *text = Lowercase(*text);
  } else if (const auto* prepend = std::get_if<Prepend>(&step)) {
    if (!text->empty()) text->insert(0, prepend->text);
  } else if (const auto* replace = std::get_if<Replace>(&step)) {
    const absl::StatusOr<std::vector<Range>> matches = replace->pattern.FindAll(*text);
    if (!matches.ok()) return matches.status();
    if (text->size() + matches->size() * replace->content.size() > kMaxNormalizedBytes) {
      return absl::OutOfRangeError(
          absl::StrCat("the normalized text would have more than ", kMaxNormalizedBytes, " bytes"));
    }
    std::string out;
    out.reserve(text->size());
    size_t done = 0;
    for (const Range& match : *matches) {
      out.append(*text, done, match.begin - done);
      out.append(replace->content);
      done = match.end;
    }
    out.append(*text, done);
    *text = std::move(out);
  } else if (const auto* strip = std::get_if<Strip>(&step)) {
    size_t begin = 0;
    while (strip->left && begin < text->size()) {
      size_t next = begin;
      if (!IsWhitespace(TakeChar(*text, &next))) break;
      begin = next;
    }
    size_t end = text->size();
    while (strip->right && end > begin) {
      size_t last = end - 1;
      while (last > begin && (static_cast<uint8_t>((*text)[last]) & 0xC0) == 0x80) --last;
      size_t next = last;
      if (!IsWhitespace(TakeChar(*text, &next))) break;
      end = last;
    }
    *text = text->substr(begin, end - begin);
  }
  return absl::OkStatus();
}

}  // namespace tandem::tokenizer
