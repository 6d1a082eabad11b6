#include "scheduler/tokenizer/sentencepiece_text.h"

#include <glog/logging.h>

#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace tandem::tokenizer {
namespace {

// Without leading and trailing spaces, runs of spaces as one.
std::string Squeeze(absl::string_view utf8) {
  std::string out;
  out.reserve(utf8.size());
  for (char c : utf8) {
    if (c == ' ' && (out.empty() || out.back() == ' ')) continue;
    out.push_back(c);
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

}  // namespace

SentencePieceText::Word SentencePieceText::Spell(absl::string_view utf8) const {
  std::string squeezed;
  if (remove_extra_whitespaces) {
    squeezed = Squeeze(utf8);
    utf8 = squeezed;
  }
  if (utf8.empty()) return {};
  Word word;
  word.text = absl::StrReplaceAll(utf8, {{" ", kSpaceSymbol}});
  if (add_dummy_prefix) word.text.insert(0, kSpaceSymbol);
  if (user_defined != nullptr) {
    size_t pos = 0;
    const absl::Status status = user_defined->Split(
        word.text, true, {},
        [&](absl::string_view stretch, size_t offset) {
          pos = offset + stretch.size();
          return absl::OkStatus();
        },
        [&](const AddedToken& piece) {
          word.frozen.push_back({pos, pos + piece.content.size(), piece.id});
          pos += piece.content.size();
          return absl::OkStatus();
        });
    CHECK(status.ok()) << status;
  }
  return word;
}

}  // namespace tandem::tokenizer
