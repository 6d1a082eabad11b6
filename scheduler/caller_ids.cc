#include "scheduler/caller_ids.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/string_view.h"

namespace tandem::scheduler {
namespace {

constexpr size_t kLongestId = 128;
constexpr size_t kTraceAt = 3, kTraceSize = 32;  // "00-TRACE-SPAN-01"
constexpr size_t kTraceparentSize = 55;

absl::string_view Value(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata, const char* key) {
  const auto it = metadata.find(key);
  return it == metadata.end() ? absl::string_view() : absl::string_view(it->second.data(), it->second.size());
}

// What stands in a log line or a table as it is, and ends no quotation there.
bool IsPlain(char c) {
  return absl::ascii_isgraph(static_cast<unsigned char>(c)) && c != '"' && c != '\'' && c != '\\';
}

bool IsHex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

// W3C Trace Context. A later version may say more behind what is known, after another hyphen.
std::string TraceOf(absl::string_view traceparent) {
  if (traceparent.size() < kTraceparentSize || traceparent.substr(0, 2) == "ff") return "";
  if (traceparent.size() > kTraceparentSize &&
      (traceparent.substr(0, 2) == "00" || traceparent[kTraceparentSize] != '-')) {
    return "";
  }
  for (size_t i = 0; i < kTraceparentSize; ++i) {
    const bool hyphen = i == 2 || i == 35 || i == 52;
    const char c = traceparent[i];
    if (hyphen ? c != '-' : !IsHex(c)) return "";
  }
  return std::string(traceparent.substr(kTraceAt, kTraceSize));
}

bool IsId(absl::string_view id) { return id.size() <= kLongestId && std::all_of(id.begin(), id.end(), IsPlain); }

bool IsTrace(absl::string_view trace) {
  return trace.size() == kTraceSize && std::all_of(trace.begin(), trace.end(), IsHex) &&
         trace.find_first_not_of('0') != absl::string_view::npos;
}

}  // namespace

CallerIds ReadCallerIds(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata) {
  return CheckedCallerIds(std::string(Value(metadata, "x-request-id")), TraceOf(Value(metadata, "traceparent")));
}

CallerIds CheckedCallerIds(const std::string& id, const std::string& trace) {
  CallerIds ids;
  if (IsId(id)) ids.id = id;
  if (IsTrace(trace)) ids.trace = trace;
  return ids;
}

}  // namespace tandem::scheduler
