#include "client/gateway/tool_calls.h"

#include <algorithm>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/fnv1a.h"

namespace tandem::gateway {
namespace {

// Tags that a call may follow, wherever they stand.
constexpr absl::string_view kCallTag = "<tool_call>";
constexpr absl::string_view kFunctionTag = "<function=";
constexpr absl::string_view kDeepSeekCalls = "<\uFF5Ctool\u2581calls\u2581begin\uFF5C>";
constexpr absl::string_view kDeepSeekCall = "<\uFF5Ctool\u2581call\u2581begin\uFF5C>";
constexpr absl::string_view kTags[] = {kCallTag, kFunctionTag, kDeepSeekCalls, kDeepSeekCall};

constexpr absl::string_view kCallEnd = "</tool_call>";
constexpr absl::string_view kFunctionEnd = "</function>";
constexpr absl::string_view kDeepSeekCallEnd = "<\uFF5Ctool\u2581call\u2581end\uFF5C>";
// What may stand between calls and after them without being text.
constexpr absl::string_view kBetween[] = {kCallEnd, ";", kDeepSeekCallEnd, "<\uFF5Ctool\u2581calls\u2581end\uFF5C>"};

// What may stand before calls at the beginning.
constexpr absl::string_view kMarkers[] = {"[TOOL_CALLS]", "<|python_tag|>"};
// What comes before the name in a call without tags, without its white space.
constexpr absl::string_view kBeforeName[] = {R"({"name":")", R"({"type":"function","name":")"};
constexpr size_t kLongestBeforeArguments = 1024;  // name and white space included

bool Agree(absl::string_view a, absl::string_view b) { return absl::StartsWith(a, b) || absl::StartsWith(b, a); }

// Whether `text` is the beginning of one of these, and not the whole of it.
template <typename Tags>
bool Begins(const Tags& tags, absl::string_view text) {
  return absl::c_any_of(tags, [text](absl::string_view tag) { return absl::StartsWith(tag, text) && tag != text; });
}

// How much of the end of `text` may be the beginning of a tag.
size_t BegunAtEnd(absl::string_view text) {
  size_t begun = 0;
  for (const absl::string_view tag : kTags) {
    for (size_t size = std::min(text.size(), tag.size() - 1); size > begun; --size) {
      if (absl::EndsWith(text, tag.substr(0, size))) begun = size;
    }
  }
  return begun;
}

absl::string_view AfterMarker(absl::string_view text) {
  for (const absl::string_view marker : kMarkers) {
    if (absl::ConsumePrefix(&text, marker)) return absl::StripLeadingAsciiWhitespace(text);
  }
  return text;
}

}  // namespace

ToolCallReader::Found ToolCallReader::Read(absl::string_view text) {
  absl::StrAppend(&held_, text);
  return Decide();
}

ToolCallReader::Found ToolCallReader::End() {
  ended_ = true;
  return Decide();
}

ToolCallReader::Found ToolCallReader::Decide() {
  Found found;
  const auto something = [this] { return !held_.empty() || (ended_ && state_ == State::kTagged); };
  for (bool decided = true; decided && something();) {
    const State before = state_;
    decided = before == State::kOpen ? Open(&found) : before == State::kText ? Text(&found) : Tagged(&found);
    if (state_ != before) {
      scan_.reset();
      looked_ = 0;
    }
  }
  return found;
}

bool ToolCallReader::Open(Found* found) {
  absl::string_view rest = absl::StripLeadingAsciiWhitespace(held_);
  if (calls_ > 0) {  // what stands between calls is no text
    const auto skips = [&rest](absl::string_view what) { return absl::ConsumePrefix(&rest, what); };
    if (absl::c_any_of(kBetween, skips) || rest.empty()) {
      held_.erase(0, held_.size() - rest.size());
      return true;
    }
    if (!ended_ && Begins(kBetween, rest)) return false;
  }
  const size_t skipped = held_.size() - rest.size();
  for (const absl::string_view tag : kTags) {
    if (!absl::StartsWith(rest, tag)) continue;
    before_tag_ = calls_ == 0 ? held_.substr(0, skipped) : "";
    held_.erase(0, skipped + tag.size());
    tag_ = tag;
    state_ = State::kTagged;
    return true;
  }
  if (!ended_ && Begins(kTags, rest)) return false;  // so does nothing but white space
  if (MayBegin(rest)) {
    Verdict verdict = JudgeUntagged(rest);
    if (!verdict.known && !ended_ && held_.size() <= kLongestCall) return false;
    if (!verdict.calls.empty()) {
      Take(std::move(verdict), skipped, found);
      return true;
    }
  }
  if (calls_ > 0) held_.erase(0, skipped);
  state_ = State::kText;
  return true;
}

bool ToolCallReader::Text(Found* found) {
  size_t first = std::string::npos;
  for (const absl::string_view tag : kTags) {
    const size_t at = held_.find(tag.data(), 0, tag.size());
    if (at >= first) continue;
    first = at;
    tag_ = tag;
  }
  if (first != std::string::npos) {
    found->text.append(held_, 0, first);
    before_tag_.clear();
    held_.erase(0, first + tag_.size());
    state_ = State::kTagged;
    return true;
  }
  const size_t kept = ended_ ? 0 : BegunAtEnd(held_);
  found->text.append(held_, 0, held_.size() - kept);
  held_.erase(0, held_.size() - kept);
  return false;
}

bool ToolCallReader::Tagged(Found* found) {
  const absl::string_view rest = absl::StripLeadingAsciiWhitespace(held_);
  if (rest.empty() && !ended_) return false;
  Verdict verdict = JudgeTagged(rest);
  if (!verdict.known && !ended_ && held_.size() <= kLongestCall) return false;
  if (!verdict.calls.empty()) {
    Take(std::move(verdict), held_.size() - rest.size(), found);
    state_ = State::kOpen;
    return true;
  }
  absl::StrAppend(&found->text, before_tag_, tag_);
  state_ = State::kText;
  return true;
}

void ToolCallReader::Take(Verdict verdict, size_t skipped, Found* found) {
  held_.erase(0, skipped + verdict.end);
  scan_.reset();
  looked_ = 0;
  for (ToolCall& call : verdict.calls) {
    if (calls_ == most_calls_) return;
    ++calls_;
    found->calls.push_back(std::move(call));
  }
}

// ---- what a text is -----------------------------------------------------------------------------------------------

ToolCallReader::Verdict ToolCallReader::JudgeTagged(absl::string_view text) {
  if (tag_ == kFunctionTag) {
    if (!MayName(text, ">")) return {.known = true};
    return JudgeUntil(text, 0, kFunctionEnd, ParseFunctionCall);
  }
  if (tag_ != kCallTag) {  // DeepSeek's: all calls, or one
    const bool outer = tag_ == kDeepSeekCalls;
    if (outer && !absl::StartsWith(text, kDeepSeekCall)) return {.known = !absl::StartsWith(kDeepSeekCall, text)};
    return JudgeUntil(text, outer ? kDeepSeekCall.size() : 0, kDeepSeekCallEnd, ParseDeepSeekCall);
  }
  if (absl::StartsWith(text, "{")) return JudgeObject(text, 0);
  if (absl::StartsWith(text, kFunctionTag)) {
    if (!MayName(text.substr(kFunctionTag.size()), ">")) return {.known = true};
    return JudgeUntil(text, kFunctionTag.size(), kFunctionEnd, ParseFunctionCall);
  }
  if (!text.empty() && absl::StartsWith(kFunctionTag, text)) return {};
  if (!MayName(text, "")) return {.known = true};
  return JudgeUntil(text, 0, kCallEnd, ParsePairsCall);
}

ToolCallReader::Verdict ToolCallReader::JudgeUntagged(absl::string_view text) {
  if (Begins(kMarkers, text)) return {};
  const absl::string_view value = AfterMarker(text);
  const size_t before = text.size() - value.size();
  const size_t bracket = std::min(value.find_first_of("{[("), value.size());
  if (bracket == value.size()) return {};
  if (value[bracket] == '(') return JudgePython(text, before + bracket);
  if (value[bracket] == '[') {
    const absl::string_view first = absl::StripLeadingAsciiWhitespace(value.substr(bracket + 1));
    if (first.empty()) return {};
    if (first[0] != '{') return JudgePython(text, before + bracket);
  }
  return JudgeObject(text, before + bracket);
}

// {..}, [{..}, ..], or f{..}.
ToolCallReader::Verdict ToolCallReader::JudgeObject(absl::string_view text, size_t begin) {
  if (!scan_.has_value()) scan_.emplace();
  const auto size = scan_->End(text.substr(begin));
  if (!size.has_value()) return {};
  Verdict verdict{.known = true, .end = begin + *size};
  const absl::string_view name = AfterMarker(text.substr(0, begin)), object = text.substr(begin, *size);
  std::optional<ToolCall> call;
  if (!name.empty()) {
    call = ParseNamedCall(*tools_, name, object);
  } else if (object[0] == '{') {
    call = ParseJsonCall(*tools_, object);
  } else {
    verdict.calls = ParseJsonCalls(*tools_, object);
  }
  if (call.has_value()) verdict.calls.push_back(*std::move(call));
  return verdict;
}

// f.call(..), or [f(..), ..].
ToolCallReader::Verdict ToolCallReader::JudgePython(absl::string_view text, size_t begin) {
  if (!scan_.has_value()) scan_.emplace(ValueScan::Syntax::kPython);
  const auto size = scan_->End(text.substr(begin));
  if (!size.has_value()) return {};
  return {.known = true,
          .calls = ParsePythonCalls(*tools_, AfterMarker(text.substr(0, begin + *size))),
          .end = begin + *size};
}

ToolCallReader::Verdict ToolCallReader::JudgeUntil(absl::string_view text, size_t begin, absl::string_view closing,
                                                   Parser parse) {
  const size_t at = text.find(closing, std::max(begin, looked_));
  if (at == absl::string_view::npos) {
    looked_ = text.size() - std::min(text.size(), closing.size() - 1);
    return {};
  }
  Verdict verdict{.known = true, .end = at + closing.size()};
  if (auto call = parse(*tools_, text.substr(begin, at - begin))) verdict.calls.push_back(*std::move(call));
  return verdict;
}

bool ToolCallReader::MayName(absl::string_view text, absl::string_view after) const {
  return absl::c_any_of(*tools_, [&](const Tool& tool) { return Agree(text, absl::StrCat(tool.name, after)); });
}

bool ToolCallReader::MayBegin(absl::string_view text) const {
  if (Begins(kMarkers, text)) return true;
  text = AfterMarker(text);
  if (text.empty()) return true;
  std::string dense(text.substr(0, kLongestBeforeArguments));
  dense.erase(std::remove_if(dense.begin(), dense.end(), absl::ascii_isspace), dense.end());
  absl::string_view inner = dense;
  const bool list = absl::ConsumePrefix(&inner, "[");
  if (MayName(text, "{") || MayName(text, ".call(") || (list && MayName(inner, "("))) return true;
  return absl::c_any_of(*tools_, [&](const Tool& tool) {
    return absl::c_any_of(
        kBeforeName, [&](absl::string_view before) { return Agree(inner, absl::StrCat(before, tool.name, "\"")); });
  });
}

std::string ToolCallId(absl::string_view request_id, int choice, size_t call) {
  constexpr absl::string_view kDigits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  uint64_t hash = Fnv1a().Add(absl::StrCat(request_id, "/", choice, "/", call)).value();
  std::string id;
  for (int i = 0; i < 9; ++i, hash /= kDigits.size()) id.push_back(kDigits[hash % kDigits.size()]);
  return id;
}

}  // namespace tandem::gateway
