#include "scheduler/request_log.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "scheduler/core/words.h"
#include "scheduler/ids.h"

namespace tandem::scheduler {
namespace {

// Lines of what is no failure: so many at once, and so many a second.
constexpr double kBurst = 20;
constexpr double kPerSecond = 5;
constexpr size_t kLongestMessage = 300;

// Of what clients chose: one line it stays.
std::string Quoted(absl::string_view text) { return absl::StrCat("\"", absl::Utf8SafeCEscape(text), "\""); }

std::string Who(const std::string& model, const std::string& tenant, const CallerIds& caller) {
  std::string out;
  if (!caller.id.empty()) absl::StrAppend(&out, "; caller's id ", caller.id);
  if (!caller.trace.empty()) absl::StrAppend(&out, "; trace ", caller.trace);
  if (!model.empty()) absl::StrAppend(&out, "; model ", model);
  if (!tenant.empty()) absl::StrAppend(&out, "; tenant ", Quoted(tenant));
  return out;
}

std::string Why(absl::string_view reason, absl::string_view message) {
  const std::string escaped = absl::Utf8SafeCEscape(message.substr(0, kLongestMessage));
  return absl::StrCat(reason, ": ", absl::StrReplaceAll(escaped, {{"\\\"", "\""}, {"\\'", "'"}}));
}

double Seconds(core::Duration d) { return static_cast<double>(d.us) / 1e6; }

void WriteToLog(Outcome outcome, const std::string& line) {
  if (outcome == Outcome::kFailed) {
    LOG(ERROR) << line;
  } else {
    LOG(INFO) << line;
  }
}

}  // namespace

RequestLog::RequestLog(RequestMetrics* metrics, Write write)
    : metrics_(metrics), write_(write ? std::move(write) : WriteToLog), budget_(kBurst) {}

void RequestLog::Refused(const RefusedCall& call, const Error& error, core::Instant now) {
  metrics_->Rejected(call.model, call.tenant, error.kind.reason);
  const Outcome outcome = OutcomeOf(error.kind.reason);
  if (outcome == Outcome::kCancelled) return;
  Say(outcome, now, [&] {
    return absl::StrCat("a call was refused: ", Why(error.kind.reason, error.message),
                        Who(call.model, call.tenant, call.caller));
  });
}

void RequestLog::Failed(const RequestStream& stream, absl::string_view reason, absl::string_view message,
                        core::Instant now) {
  const RequestStream::Facts& facts = stream.facts();
  if (facts.flow != nullptr) facts.flow->Failed(reason);
  const Outcome outcome = OutcomeOf(reason);
  if (outcome == Outcome::kCancelled) return;
  Say(outcome, now, [&] {
    const RequestStream::Course course = stream.course();
    std::string line = absl::StrCat("request ", ToHex(facts.id), " failed: ", Why(reason, message),
                                    Who(facts.model, facts.tenant, facts.caller));
    absl::StrAppend(&line, "; ", facts.prompt_tokens, " prompt tokens, ", course.output_tokens, " came");
    if (course.assigned) absl::StrAppend(&line, absl::StrFormat("; %.3f s in the queue", Seconds(*course.assigned)));
    if (course.first_token)
      absl::StrAppend(&line, absl::StrFormat(", first token after %.3f s", Seconds(*course.first_token)));
    if (course.group.value != 0) absl::StrAppend(&line, "; last on ", core::Name(course.group));
    absl::StrAppend(&line, absl::StrFormat("; %.3f s in all", Seconds(now - facts.arrived)));
    return line;
  });
}

bool RequestLog::Spend(core::Instant now, uint64_t* unwritten) {
  absl::MutexLock lock(&mu_);
  if (now > filled_) {
    budget_ = std::min(kBurst, budget_ + Seconds(now - filled_) * kPerSecond);
    filled_ = now;
  }
  if (budget_ < 1) {
    ++unwritten_;
    return false;
  }
  budget_ -= 1;
  *unwritten = std::exchange(unwritten_, 0);
  return true;
}

void RequestLog::Say(Outcome outcome, core::Instant now, const std::function<std::string()>& line) {
  uint64_t unwritten = 0;
  if (outcome != Outcome::kFailed && !Spend(now, &unwritten)) return;
  write_(outcome, unwritten == 0 ? line() : absl::StrCat(line(), "; ", unwritten, " like it before had no line"));
}

}  // namespace tandem::scheduler
