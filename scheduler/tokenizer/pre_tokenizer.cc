#include "scheduler/tokenizer/pre_tokenizer.h"

#include <glog/logging.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "scheduler/tokenizer/byte_level.h"
#include "scheduler/tokenizer/unicode.h"
#include "scheduler/tokenizer/utf8.h"
#include "scheduler/tokenizer/vocabulary.h"

namespace tandem::tokenizer {
namespace {

constexpr int kMaxDepth = 8;  // sequences inside sequences; files in use have one level

SplitBehavior ParseBehavior(JsonFields* fields) {
  const std::string name = fields->String("behavior");
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  fields->Fail("behavior", absl::StrCat("is ", QuotePiece(name), ", which is not supported"));
  return SplitBehavior::kIsolated;
}

struct Part {
  Range range;
  bool match;
};

// Joins each match to the part on its left, unless that one is a match too. For the other side the caller turns the
// list around.
std::vector<Part> MergeMatches(const std::vector<Part>& parts, bool reversed) {
  std::vector<Part> out;
  bool previous = false;
  for (const Part& part : parts) {
    if (part.match && !previous && !out.empty()) {
      (reversed ? out.back().range.begin : out.back().range.end) = reversed ? part.range.begin : part.range.end;
    } else {
      out.push_back(part);
    }
    previous = part.match;
  }
  return out;
}

// Maximal runs of characters of one kind; kind 0 is left out.
template <typename Kind>
std::vector<Range> Runs(absl::string_view text, Kind kind_of) {
  std::vector<Range> runs;
  int previous = 0;
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const int kind = kind_of(TakeChar(text, &pos));
    if (kind != 0 && kind == previous) {
      runs.back().end = pos;
    } else if (kind != 0) {
      runs.push_back({begin, pos});
    }
    previous = kind;
  }
  return runs;
}

}  // namespace

std::vector<Range> SplitAt(size_t size, const std::vector<Range>& matches, SplitBehavior behavior, bool invert) {
  std::vector<Part> parts;
  parts.reserve(matches.size() * 2 + 1);
  size_t done = 0;
  for (const Range& match : matches) {
    if (match.begin > done) parts.push_back({{done, match.begin}, invert});
    parts.push_back({match, !invert});
    done = match.end;
  }
  if (done < size) parts.push_back({{done, size}, invert});

  switch (behavior) {
    case SplitBehavior::kIsolated:
      break;
    case SplitBehavior::kRemoved:
      parts.erase(std::remove_if(parts.begin(), parts.end(), [](const Part& p) { return p.match; }), parts.end());
      break;
    case SplitBehavior::kContiguous: {
      std::vector<Part> merged;
      for (const Part& part : parts) {
        if (!merged.empty() && merged.back().match == part.match) {
          merged.back().range.end = part.range.end;
        } else {
          merged.push_back(part);
        }
      }
      parts = std::move(merged);
      break;
    }
    case SplitBehavior::kMergedWithPrevious:
      parts = MergeMatches(parts, false);
      break;
    case SplitBehavior::kMergedWithNext:
      std::reverse(parts.begin(), parts.end());
      parts = MergeMatches(parts, true);
      std::reverse(parts.begin(), parts.end());
      break;
  }
  std::vector<Range> ranges;
  ranges.reserve(parts.size());
  for (const Part& part : parts) ranges.push_back(part.range);
  return ranges;
}

absl::StatusOr<PreTokenizer> PreTokenizer::Parse(const Json& value) {
  PreTokenizer pre_tokenizer;
  if (absl::Status status = pre_tokenizer.Add(value, "pre_tokenizer", 0); !status.ok()) return status;
  return pre_tokenizer;
}

PreTokenizer PreTokenizer::Gpt2(bool add_prefix_space) {
  PreTokenizer pre_tokenizer;
  pre_tokenizer.AddByteLevel(add_prefix_space, true);
  return pre_tokenizer;
}

void PreTokenizer::AddByteLevel(bool add_prefix_space, bool use_regex) {
  if (add_prefix_space) steps_.push_back(PrefixSpace{});
  if (use_regex) {
    absl::StatusOr<Regex> regex = Regex::Compile(kGpt2Pattern);
    CHECK(regex.ok()) << regex.status();
    steps_.push_back(Split{Pattern::Regular(*std::move(regex)), SplitBehavior::kIsolated, false});
  }
  steps_.push_back(SpellBytes{});
}

absl::StatusOr<PreTokenizer::Metaspace> PreTokenizer::ParseMetaspace(JsonFields* fields) {
  Metaspace step{fields->String("replacement"), Metaspace::Prepend::kAlways, fields->BoolOr("split", true)};
  if (fields->ok() && step.replacement.empty()) fields->Fail("replacement", "is empty");
  // Older files say only whether there is a prefix.
  const bool add_prefix_space = fields->BoolOr("add_prefix_space", true);
  const std::string scheme = fields->StringOr("prepend_scheme", add_prefix_space ? "always" : "never");
  if (scheme == "first") {
    step.prepend = Metaspace::Prepend::kFirst;
  } else if (scheme == "never") {
    step.prepend = Metaspace::Prepend::kNever;
  } else if (scheme != "always") {
    fields->Fail("prepend_scheme", absl::StrCat("is ", QuotePiece(scheme), ", which is not supported"));
  }
  if (!add_prefix_space && scheme != "never") fields->Fail("prepend_scheme", "contradicts add_prefix_space");
  if (absl::Status status = fields->Finish(); !status.ok()) return status;
  return step;
}

absl::Status PreTokenizer::Add(const Json& value, const std::string& path, int depth) {
  JsonFields fields(value, path);
  const std::string type = fields.String("type");
  if (type == "Sequence") {
    if (depth == kMaxDepth) return absl::InvalidArgumentError(absl::StrCat(path, " is nested too deeply"));
    if (const Json* list = fields.Array("pretokenizers")) {
      for (size_t i = 0; i < list->size(); ++i) {
        absl::Status status = Add((*list)[i], absl::StrCat(path, ".pretokenizers[", i, "]"), depth + 1);
        if (!status.ok()) return status;
      }
    }
  } else if (type == "ByteLevel") {
    const bool add_prefix_space = fields.Bool("add_prefix_space");
    fields.Ignore("trim_offsets");  // Offsets are not reported.
    AddByteLevel(add_prefix_space, fields.BoolOr("use_regex", true));
  } else if (type == "Split") {
    absl::StatusOr<Pattern> pattern = Pattern::Parse(&fields, "pattern");
    if (!pattern.ok()) return pattern.status();
    const SplitBehavior behavior = ParseBehavior(&fields);
    steps_.push_back(Split{*std::move(pattern), behavior, fields.Bool("invert")});
  } else if (type == "Digits") {
    const bool each = fields.Bool("individual_digits");
    steps_.push_back(ClassSplit{CharClass::kNumeric, each ? SplitBehavior::kIsolated : SplitBehavior::kContiguous});
  } else if (type == "Punctuation") {
    steps_.push_back(ClassSplit{CharClass::kPunctuation, ParseBehavior(&fields)});
  } else if (type == "BertPreTokenizer") {
    steps_.push_back(ClassSplit{CharClass::kWhitespace, SplitBehavior::kRemoved});
    steps_.push_back(ClassSplit{CharClass::kPunctuation, SplitBehavior::kIsolated});
  } else if (type == "WhitespaceSplit") {
    steps_.push_back(ClassSplit{CharClass::kWhitespace, SplitBehavior::kRemoved});
  } else if (type == "Whitespace") {
    steps_.push_back(WordSplit{});
  } else if (type == "Metaspace") {
    absl::StatusOr<Metaspace> step = ParseMetaspace(&fields);
    if (!step.ok()) return step.status();
    steps_.push_back(*std::move(step));
  } else if (fields.ok()) {
    return absl::UnimplementedError(absl::StrCat(path, ": pre-tokenizer ", QuotePiece(type), " is not supported"));
  }
  return fields.Finish();
}

absl::Status PreTokenizer::Run(absl::string_view text, bool starts_prompt, Sink sink) const {
  return RunFrom(0, text, starts_prompt, sink);
}

absl::Status PreTokenizer::RunParts(size_t step, absl::string_view text, bool starts_prompt,
                                    const std::vector<Range>& parts, Sink sink) const {
  for (const Range& part : parts) {
    absl::Status status =
        RunFrom(step, text.substr(part.begin, part.end - part.begin), starts_prompt && part.begin == 0, sink);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status PreTokenizer::RunFrom(size_t index, absl::string_view text, bool starts_prompt, Sink sink) const {
  if (index == steps_.size()) return sink(text);
  const Step& step = steps_[index];
  if (const auto* split = std::get_if<Split>(&step)) {
    const absl::StatusOr<std::vector<Range>> matches = split->pattern.FindAll(text);
    if (!matches.ok()) return matches.status();
    const std::vector<Range> parts = SplitAt(text.size(), *matches, split->behavior, split->invert);
    return RunParts(index + 1, text, starts_prompt, parts, sink);
  }
  if (const auto* split = std::get_if<ClassSplit>(&step)) {
    std::vector<Range> matches;
    for (size_t pos = 0; pos < text.size();) {
      const size_t begin = pos;
      const char32_t c = TakeChar(text, &pos);
      const bool match = split->char_class == CharClass::kNumeric       ? IsNumeric(c)
                         : split->char_class == CharClass::kPunctuation ? IsPunctuation(c)
                                                                        : IsWhitespace(c);
      if (match) matches.push_back({begin, pos});
    }
    return RunParts(index + 1, text, starts_prompt, SplitAt(text.size(), matches, split->behavior, false), sink);
  }
  if (std::holds_alternative<WordSplit>(step)) {
    const auto kind = [](char32_t c) { return IsWord(c) ? 1 : IsWhitespace(c) ? 0 : 2; };
    return RunParts(index + 1, text, starts_prompt, Runs(text, kind), sink);
  }
  if (std::holds_alternative<PrefixSpace>(step)) {
    if (absl::StartsWith(text, " ")) return RunFrom(index + 1, text, starts_prompt, sink);
    return RunFrom(index + 1, absl::StrCat(" ", text), starts_prompt, sink);
  }
  if (std::holds_alternative<SpellBytes>(step)) return RunFrom(index + 1, ToByteLevel(text), starts_prompt, sink);

  const auto& meta = std::get<Metaspace>(step);
  std::string spelled = absl::StrReplaceAll(text, {{" ", meta.replacement}});
  const bool prepend =
      meta.prepend == Metaspace::Prepend::kAlways || (meta.prepend == Metaspace::Prepend::kFirst && starts_prompt);
  if (prepend && !absl::StartsWith(spelled, meta.replacement)) spelled.insert(0, meta.replacement);
  if (!meta.split) return RunFrom(index + 1, spelled, starts_prompt, sink);
  const absl::StatusOr<std::vector<Range>> spaces = Pattern::Literal(meta.replacement).FindAll(spelled);
  if (!spaces.ok()) return spaces.status();
  return RunParts(index + 1, spelled, starts_prompt,
                  SplitAt(spelled.size(), *spaces, SplitBehavior::kMergedWithNext, false), sink);
}

}  // namespace tandem::tokenizer
