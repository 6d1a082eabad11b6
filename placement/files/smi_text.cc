#include "placement/files/smi_text.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"

namespace tandem::placement {
namespace {

constexpr int kMostNuma = 4095;

struct LabelName {
  const char* text;
  PathKind kind;
};
constexpr LabelName kLabels[] = {{"PIX", PathKind::kPix},   {"PXB", PathKind::kPxb}, {"PHB", PathKind::kPhb},
                                 {"NODE", PathKind::kNode}, {"SYS", PathKind::kSys}, {"SOC", PathKind::kSys},
                                 {"X", PathKind::kSelf}};

bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f'; }

size_t Digits(absl::string_view text) {
  size_t n = 0;
  while (n < text.size() && absl::ascii_isdigit(text[n])) ++n;
  return n;
}

// Takes the label that `text` starts with off it.
std::optional<Link> TakeLabel(absl::string_view& text) {
  Link link;
  link.source = Source::kFile;
  if (absl::StartsWith(text, "NV")) {
    const size_t digits = Digits(text.substr(2));
    // More digits than any count has: kept as a count that nothing accepts.
    if (digits == 0) return std::nullopt;
    if (digits > 3 || !absl::SimpleAtoi(text.substr(2, digits), &link.nvlinks)) link.nvlinks = 1000;
    link.kind = PathKind::kNvLink;
    text.remove_prefix(2 + digits);
    return link;
  }
  for (const LabelName& label : kLabels) {
    if (!absl::ConsumePrefix(&text, label.text)) continue;
    link.kind = label.kind;
    return link;
  }
  return std::nullopt;
}

}  // namespace

std::vector<SmiWord> SmiWords(absl::string_view line) {
  std::vector<SmiWord> words;
  for (size_t at = 0; at < line.size();) {
    if (IsBlank(line[at])) {
      ++at;
      continue;
    }
    size_t end = at;
    while (end < line.size() && !IsBlank(line[end])) ++end;
    words.push_back({std::string(line.substr(at, end - at)), at});
    at = end;
  }
  return words;
}

std::optional<Link> ParseSmiLabel(absl::string_view word) {
  const std::optional<Link> link = TakeLabel(word);
  return word.empty() ? link : std::nullopt;
}

SmiLabels SplitSmiLabels(absl::string_view word) {
  SmiLabels split;
  while (!word.empty()) {
    const std::optional<Link> link = TakeLabel(word);
    if (!link.has_value()) break;
    split.labels.push_back(*link);
  }
  split.rest = std::string(word);
  return split;
}

std::optional<int> ParseGpuName(absl::string_view word) {
  int index = 0;
  if (!absl::ConsumePrefix(&word, "GPU") || word.empty() || word.size() > 6 || Digits(word) != word.size()) {
    return std::nullopt;
  }
  if (!absl::SimpleAtoi(word, &index)) return std::nullopt;
  return index;
}

std::vector<std::string> SplitGpuNames(absl::string_view word) {
  std::vector<std::string> names;
  while (absl::StartsWith(word, "GPU")) {
    const size_t digits = Digits(word.substr(3));
    if (digits == 0) return {};
    names.emplace_back(word.substr(0, 3 + digits));
    word.remove_prefix(3 + digits);
  }
  if (!word.empty()) return {};
  return names;
}

bool IsNicName(absl::string_view word) {
  if (word.empty() || !absl::ascii_isalpha(word.front()) || !absl::ascii_isdigit(word.back())) return false;
  if (absl::StartsWith(word, "GPU") || ParseSmiLabel(word).has_value()) return false;
  return std::all_of(word.begin(), word.end(),
                     [](char c) { return absl::ascii_isalnum(c) || c == '_' || c == '-' || c == '.'; });
}

bool IsCpuList(absl::string_view text) {
  if (text == "N/A") return true;
  return !text.empty() && absl::ascii_isdigit(text.front()) &&
         std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isdigit(c) || c == ',' || c == '-'; });
}

std::optional<int> ParseNuma(absl::string_view text) {
  if (text.empty() || text == "N/A") return -1;
  if (!IsCpuList(text)) return std::nullopt;
  const size_t digits = Digits(text);
  int numa = 0;
  if (digits > 6 || !absl::SimpleAtoi(text.substr(0, digits), &numa) || numa > kMostNuma) return std::nullopt;
  return numa;
}

std::string WithoutEscapes(absl::string_view line) {
  std::string plain;
  for (size_t at = 0; at < line.size(); ++at) {
    if (line[at] == '\x1b' && at + 1 < line.size() && line[at + 1] == '[') {
      at += 2;
      while (at < line.size() && !absl::ascii_isalpha(line[at])) ++at;
      continue;
    }
    plain += line[at];
  }
  return plain;
}

}  // namespace tandem::placement
