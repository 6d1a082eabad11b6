#include "scheduler/tokenizer/decoder.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "scheduler/tokenizer/byte_level.h"
#include "scheduler/tokenizer/pattern.h"
#include "scheduler/tokenizer/vocabulary.h"

namespace tandem::tokenizer {
namespace {

constexpr int kMaxDepth = 8;       // sequences inside sequences; files in use have one level
constexpr int64_t kMaxStrip = 16;  // files in use strip one character

size_t StripCount(JsonFields* fields, const char* name) {
  const int64_t count = fields->Int(name);
  if (count < 0 || count > kMaxStrip) fields->Fail(name, absl::StrCat("is ", count, ", it must be 0 to ", kMaxStrip));
  return static_cast<size_t>(std::clamp<int64_t>(count, 0, kMaxStrip));
}

// English spelling, as the reference restores it, one rule after the other.
void CloseUpPunctuation(std::string* text) {
  static constexpr std::pair<const char*, const char*> kRules[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},    {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
  };
  for (const auto& [from, to] : kRules) *text = absl::StrReplaceAll(*text, {{from, to}});
}

}  // namespace

absl::StatusOr<Decoder> Decoder::Parse(const Json& value) {
  Decoder decoder;
  if (absl::Status status = decoder.Add(value, "decoder", 0); !status.ok()) return status;
  return decoder;
}

Decoder Decoder::ByteLevel() {
  Decoder decoder;
  decoder.steps_.push_back(SpellBytes{});
  return decoder;
}

Decoder Decoder::SentencePiece(size_t strip_start) {
  Decoder decoder;
  decoder.steps_.push_back(Replace{"\xE2\x96\x81", " "});
  decoder.steps_.push_back(BytePieces{});
  decoder.strip_start_ = strip_start;
  return decoder;
}

absl::Status Decoder::Add(const Json& value, const std::string& path, int depth) {
  JsonFields fields(value, path);
  const std::string type = fields.String("type");
  const auto refuse = [&](absl::string_view why) {
    return absl::UnimplementedError(absl::StrCat(path, ": decoder ", QuotePiece(type), " ", why));
  };
  // Whether a step that works on the characters of one token may stand here.
  const auto misplaced = [&]() { return fused_ || makes_bytes_; };
  if (type == "Sequence") {
    if (depth == kMaxDepth) return absl::InvalidArgumentError(absl::StrCat(path, " is nested too deeply"));
    if (const Json* list = fields.Array("decoders")) {
      for (size_t i = 0; i < list->size(); ++i) {
        absl::Status status = Add((*list)[i], absl::StrCat(path, ".decoders[", i, "]"), depth + 1);
        if (!status.ok()) return status;
      }
    }
  } else if (type == "ByteLevel") {
    // Its options steer the pre-tokenizer of the same name.
    for (const char* name : {"add_prefix_space", "trim_offsets", "use_regex"}) fields.Ignore(name);
    if (misplaced()) return refuse("after another step that makes bytes is not supported");
    steps_.push_back(SpellBytes{});
    makes_bytes_ = fused_ = true;
  } else if (type == "ByteFallback") {
    if (misplaced()) return refuse("after another step that makes bytes is not supported");
    steps_.push_back(BytePieces{});
    makes_bytes_ = true;
  } else if (type == "Fuse") {
    fused_ = true;
  } else if (type == "Replace") {
    absl::StatusOr<Pattern> pattern = Pattern::Parse(&fields, "pattern");
    if (!pattern.ok()) return pattern.status();
    if (pattern->literal() == nullptr) return refuse("with a regular expression is not supported");
    if (misplaced()) return refuse("behind Fuse, ByteFallback or ByteLevel is not supported");
    steps_.push_back(Replace{*pattern->literal(), fields.String("content")});
  } else if (type == "Metaspace") {
    Metaspace step{fields.String("replacement"), true};
    if (fields.ok() && step.replacement.empty()) fields.Fail("replacement", "is empty");
    const bool add_prefix_space = fields.BoolOr("add_prefix_space", true);
    const std::string scheme = fields.StringOr("prepend_scheme", add_prefix_space ? "always" : "never");
    if (scheme != "always" && scheme != "first" && scheme != "never") {
      fields.Fail("prepend_scheme", absl::StrCat("is ", QuotePiece(scheme), ", which is not supported"));
    }
    step.drop_on_first = scheme != "never";
    fields.Ignore("split");
    if (misplaced()) return refuse("behind Fuse, ByteFallback or ByteLevel is not supported");
    first_differs_ = first_differs_ || step.drop_on_first;
    steps_.push_back(std::move(step));
  } else if (type == "Strip") {
    const std::string content = fields.String("content");
    const size_t start = StripCount(&fields, "start");
    const size_t stop = StripCount(&fields, "stop");
    if (fields.ok() && (content.size() != 1 || static_cast<unsigned char>(content[0]) >= 0x80)) {
      fields.Fail("content", "must be one ASCII character");
    }
    if (absl::Status status = fields.Finish(); !status.ok()) return status;
    if (fused_) {
      // The end of a text that still grows is not known.
      if (stop > 0) return refuse("with \"stop\" behind Fuse is not supported");
      if (strip_start_ > 0) return refuse("twice behind Fuse is not supported");
      strip_start_ = start;
      strip_char_ = content[0];
    } else {
      if (makes_bytes_) return refuse("between ByteFallback and Fuse is not supported");
      steps_.push_back(StripToken{content[0], start, stop});
    }
  } else if (type == "WordPiece") {
    WordPieces step{fields.String("prefix"), fields.Bool("cleanup")};
    if (misplaced()) return refuse("behind Fuse, ByteFallback or ByteLevel is not supported");
    first_differs_ = true;
    steps_.push_back(std::move(step));
  } else if (fields.ok()) {
    return refuse("is not supported");
  }
  return fields.Finish();
}

std::string Decoder::Bytes(absl::string_view piece, bool first) const {
  std::string text(piece);
  for (const Step& step : steps_) {
    if (std::holds_alternative<SpellBytes>(step)) {
      // An added token may hold characters outside the alphabet: it is text as it stands.
      if (std::optional<std::string> bytes = FromByteLevel(text)) text = *std::move(bytes);
    } else if (std::holds_alternative<BytePieces>(step)) {
      if (const std::optional<uint8_t> byte = ParseBytePiece(text)) text.assign(1, static_cast<char>(*byte));
    } else if (const auto* replace = std::get_if<Replace>(&step)) {
      text = absl::StrReplaceAll(text, {{replace->from, replace->to}});
    } else if (const auto* words = std::get_if<WordPieces>(&step)) {
      if (!first && absl::StartsWith(text, words->prefix)) {
        text.erase(0, words->prefix.size());
      } else if (!first) {
        text = absl::StrCat(" ", text);
      }
      if (words->cleanup) CloseUpPunctuation(&text);
    } else if (const auto* meta = std::get_if<Metaspace>(&step)) {
      text = absl::StrReplaceAll(text, {{meta->replacement, first && meta->drop_on_first ? "" : " "}});
    } else if (const auto* strip = std::get_if<StripToken>(&step)) {
      size_t begin = 0;
      while (begin < std::min(strip->start, text.size()) && text[begin] == strip->content) ++begin;
      size_t end = text.size();
      while (end > begin && text.size() - end < strip->stop && text[end - 1] == strip->content) --end;
      text = text.substr(begin, end - begin);
    }
  }
  return text;
}

}  // namespace tandem::tokenizer
