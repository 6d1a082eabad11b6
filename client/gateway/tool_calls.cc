#include "client/gateway/tool_calls.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tandem::gateway {
namespace {

using nlohmann::json;

constexpr absl::string_view kTag = "<tool_call>";
constexpr absl::string_view kClosingTag = "</tool_call>";
constexpr absl::string_view kMarker = "[TOOL_CALLS]";
// What comes before the name in a call without tags, without its white space.
constexpr absl::string_view kBeforeName[] = {R"({"name":")", R"({"type":"function","name":")"};
constexpr size_t kLongestBeforeArguments = 1024;  // name and white space included

bool Agree(absl::string_view a, absl::string_view b) { return absl::StartsWith(a, b) || absl::StartsWith(b, a); }

// How much of the end of `text` may be the beginning of `tag`.
size_t BegunAtEnd(absl::string_view text, absl::string_view tag) {
  for (size_t size = std::min(text.size(), tag.size() - 1); size > 0; --size) {
    if (absl::EndsWith(text, tag.substr(0, size))) return size;
  }
  return 0;
}

absl::string_view AfterMarker(absl::string_view text) {
  return absl::ConsumePrefix(&text, kMarker) ? absl::StripLeadingAsciiWhitespace(text) : text;
}

json Parse(absl::string_view text) { return json::parse(text.begin(), text.end(), nullptr, false); }

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
    if (state_ != before) scan_ = {};
  }
  return found;
}

bool ToolCallReader::Open(Found* found) {
  absl::string_view rest = absl::StripLeadingAsciiWhitespace(held_);
  if (calls_ > 0) {  // what stands between calls is no text
    if (absl::ConsumePrefix(&rest, kClosingTag) || absl::ConsumePrefix(&rest, ";") || rest.empty()) {
      held_.erase(0, held_.size() - rest.size());
      return true;
    }
    if (!ended_ && absl::StartsWith(kClosingTag, rest)) return false;
  }
  const size_t skipped = held_.size() - rest.size();
  if (absl::StartsWith(rest, kTag)) {
    before_tag_ = calls_ == 0 ? held_.substr(0, skipped) : "";
    held_.erase(0, skipped + kTag.size());
    state_ = State::kTagged;
    return true;
  }
  if (!ended_ && absl::StartsWith(kTag, rest)) return false;  // so does nothing but white space
  if (MayBegin(rest)) {
    size_t end = 0;
    auto calls = ParseUntagged(rest, &end);
    if (!calls.has_value() && !ended_ && held_.size() <= kLongestCall) return false;
    if (calls.has_value() && !calls->empty()) {
      Take(*std::move(calls), skipped + end, found);
      return true;
    }
  }
  if (calls_ > 0) held_.erase(0, skipped);
  state_ = State::kText;
  return true;
}

bool ToolCallReader::Text(Found* found) {
  const size_t tag = held_.find(kTag.data(), 0, kTag.size());
  if (tag != std::string::npos) {
    found->text.append(held_, 0, tag);
    before_tag_.clear();
    held_.erase(0, tag + kTag.size());
    state_ = State::kTagged;
    return true;
  }
  const size_t kept = ended_ ? 0 : BegunAtEnd(held_, kTag);
  found->text.append(held_, 0, held_.size() - kept);
  held_.erase(0, held_.size() - kept);
  return false;
}

bool ToolCallReader::Tagged(Found* found) {
  const absl::string_view rest = absl::StripLeadingAsciiWhitespace(held_);
  if (rest.empty() && !ended_) return false;
  if (absl::StartsWith(rest, "{")) {
    const auto end = scan_.End(rest);
    if (!end.has_value() && !ended_ && held_.size() <= kLongestCall) return false;
    if (auto call = end.has_value() ? ParseCall(rest.substr(0, *end)) : std::nullopt) {
      Take({*std::move(call)}, held_.size() - rest.size() + *end, found);
      state_ = State::kOpen;
      return true;
    }
  }
  absl::StrAppend(&found->text, before_tag_, kTag);
  state_ = State::kText;
  return true;
}

void ToolCallReader::Take(std::vector<ToolCall> calls, size_t bytes, Found* found) {
  held_.erase(0, bytes);
  scan_ = {};
  for (ToolCall& call : calls) {
    if (calls_ == most_calls_) return;
    ++calls_;
    found->calls.push_back(std::move(call));
  }
}

bool ToolCallReader::Offered(absl::string_view name) const { return absl::c_linear_search(*names_, name); }

bool ToolCallReader::MayBegin(absl::string_view text) const {
  if (absl::StartsWith(kMarker, text)) return true;
  text = AfterMarker(text);
  if (text.empty()) return true;
  std::string dense(text.substr(0, kLongestBeforeArguments));
  dense.erase(std::remove_if(dense.begin(), dense.end(), absl::ascii_isspace), dense.end());
  absl::string_view object = dense;
  absl::ConsumePrefix(&object, "[");
  return absl::c_any_of(*names_, [&](const std::string& name) {
    return Agree(text, absl::StrCat(name, "{")) || absl::c_any_of(kBeforeName, [&](absl::string_view before) {
             return Agree(object, absl::StrCat(before, name, "\""));
           });
  });
}

std::optional<std::vector<ToolCall>> ToolCallReader::ParseUntagged(absl::string_view text, size_t* end) {
  if (absl::StartsWith(kMarker, text)) return std::nullopt;
  const absl::string_view value = AfterMarker(text);
  const size_t name_size = std::min(value.find_first_of("{["), value.size());
  const auto size = name_size < value.size() ? scan_.End(value.substr(name_size)) : std::nullopt;
  if (!size.has_value()) return std::nullopt;
  *end = text.size() - value.size() + name_size + *size;
  const absl::string_view json_text = value.substr(name_size, *size);
  std::vector<ToolCall> calls;
  if (name_size > 0) {
    const absl::string_view name = value.substr(0, name_size);
    if (Offered(name) && Parse(json_text).is_object()) calls.push_back({std::string(name), std::string(json_text)});
    return calls;
  }
  if (json_text[0] == '{') {
    if (auto call = ParseCall(json_text)) calls.push_back(*std::move(call));
    return calls;
  }
  if (!Parse(json_text).is_array()) return calls;
  for (const absl::string_view element : RawElements(json_text)) {
    auto call = ParseCall(element);
    if (!call.has_value()) return std::vector<ToolCall>();
    calls.push_back(*std::move(call));
  }
  return calls;
}

std::optional<ToolCall> ToolCallReader::ParseCall(absl::string_view object) const {
  const json call = Parse(object);
  if (!call.is_object()) return std::nullopt;
  const auto name = call.find("name");
  if (name == call.end() || !name->is_string() || !Offered(name->get_ref<const std::string&>())) return std::nullopt;
  for (const char* key : {"arguments", "parameters"}) {
    const auto arguments = call.find(key);
    if (arguments == call.end()) continue;
    if (arguments->is_string()) return ToolCall{*name, *arguments};  // JSON within JSON
    if (!arguments->is_object()) return std::nullopt;
    const auto written = RawMember(object, key);
    return ToolCall{*name, written.has_value() ? std::string(*written) : arguments->dump()};
  }
  return ToolCall{*name, "{}"};
}

std::string ToolCallId(absl::string_view request_id, int choice, size_t call) {
  constexpr absl::string_view kDigits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : absl::StrCat(request_id, "/", choice, "/", call)) {
    hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  }
  std::string id;
  for (int i = 0; i < 9; ++i, hash /= kDigits.size()) id.push_back(kDigits[hash % kDigits.size()]);
  return id;
}

}  // namespace tandem::gateway
