// Reads CLIP's pair of files, vocab.json and merges.txt, where no tokenizer.json is beside them. They are GPT-2's by
// form, but what surrounds them is not: text is folded to lower case, a word's last piece carries "</w>", and a start
// and an end token stand around it. All of it is said here in the words of a tokenizer.json and read as one.
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "scheduler/tokenizer/json_fields.h"
#include "scheduler/tokenizer/tokenizer_parts.h"
#include "scheduler/tokenizer/utf8.h"

namespace tandem::tokenizer {
namespace {

constexpr char kStart[] = "<|startoftext|>";
constexpr char kEnd[] = "<|endoftext|>";
constexpr char kWords[] = R"('s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)";

Json Added(const char* content, const Json& id) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

}  // namespace

bool AreClipFiles(absl::string_view vocab_json, absl::string_view merges_txt) {
  return absl::StrContains(vocab_json, kStart) && absl::StrContains(merges_txt, "</w>");
}

absl::StatusOr<TokenizerParts> ParseClipFiles(absl::string_view vocab_json, absl::string_view merges_txt) {
  absl::StatusOr<Json> vocab = ParseJson(vocab_json, "vocab.json");
  if (!vocab.ok()) return vocab.status();
  if (!vocab->is_object()) return absl::InvalidArgumentError("vocab.json: not an object of pieces and ids");
  for (const char* name : {kStart, kEnd}) {
    if (!vocab->contains(name)) return absl::InvalidArgumentError(absl::StrCat("vocab.json: ", name, " is missing"));
  }
  if (const std::optional<size_t> bad = FindInvalidUtf8(merges_txt)) {
    return absl::InvalidArgumentError(absl::StrCat("merges.txt: no valid UTF-8 at byte ", *bad));
  }
  Json merges = Json::array();
  for (absl::string_view line : absl::StrSplit(merges_txt, '\n')) {
    absl::ConsumeSuffix(&line, "\r");
    if (!line.empty()) merges.push_back(std::string(line));
  }
  const Json start = (*vocab)[kStart];
  const Json end = (*vocab)[kEnd];
  const Json file = {
      {"version", "1.0"},
      {"added_tokens", {Added(kStart, start), Added(kEnd, end)}},
      {"normalizer",
       {{"type", "Sequence"},
        {"normalizers",
         {{{"type", "NFC"}},
          {{"type", "Replace"}, {"pattern", {{"Regex", R"(\s+)"}}}, {"content", " "}},
          {{"type", "Lowercase"}}}}}},
      {"pre_tokenizer",
       {{"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"Regex", kWords}}}, {"behavior", "Removed"}, {"invert", true}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}}}}}},
      {"post_processor",
       {{"type", "RobertaProcessing"},
        {"sep", {kEnd, end}},
        {"cls", {kStart, start}},
        {"trim_offsets", false},
        {"add_prefix_space", false}}},
      {"decoder", {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}},
      {"model",
       {{"type", "BPE"},
        {"unk_token", kEnd},
        {"end_of_word_suffix", "</w>"},
        {"vocab", *std::move(vocab)},
        {"merges", std::move(merges)}}},
  };
  return ParseTokenizerJson(file.dump());
}

}  // namespace tandem::tokenizer
