#include "client/ctl/bench_stats.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "config/units.h"

namespace tandem::client::ctl {
namespace {

double Share(size_t part, double seconds) { return seconds > 0 ? static_cast<double>(part) / seconds : 0; }

int64_t TimePerToken(const BenchOutcome& outcome) {
  return outcome.tokens < 2 ? 0 : (outcome.last_us - outcome.first_us) / (outcome.tokens - 1);
}

bool Meets(const BenchOutcome& outcome, const ServiceLevel& limits) {
  if (outcome.end != BenchOutcome::End::kCompleted || outcome.tokens == 0) return false;
  if (limits.ttft_us && outcome.first_us - outcome.due_us > *limits.ttft_us) return false;
  if (limits.tpot_us && TimePerToken(outcome) > *limits.tpot_us) return false;
  return !limits.e2e_us || outcome.last_us - outcome.due_us <= *limits.e2e_us;
}

}  // namespace

absl::StatusOr<ServiceLevel> ParseServiceLevel(absl::string_view text) {
  ServiceLevel limits;
  for (absl::string_view part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> pair = absl::StrSplit(part, absl::MaxSplits('=', 1));
    const auto limit = config::ParseDuration(std::string(pair.second));
    if (!limit.ok()) return absl::InvalidArgumentError(absl::StrCat("--slo ", part, ": ", limit.status().message()));
    const int64_t us = absl::ToInt64Microseconds(*limit);
    if (pair.first == "ttft") {
      limits.ttft_us = us;
    } else if (pair.first == "tpot") {
      limits.tpot_us = us;
    } else if (pair.first == "e2e") {
      limits.e2e_us = us;
    } else {
      return absl::InvalidArgumentError(absl::StrCat("--slo ", part, ": the names are ttft, tpot and e2e"));
    }
  }
  return limits;
}

double Percentile(const std::vector<int64_t>& sorted, double share) {
  const double rank = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(rank);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double part = rank - static_cast<double>(below);
  return static_cast<double>(sorted[below]) + part * static_cast<double>(sorted[above] - sorted[below]);
}

Distribution Distribute(std::vector<int64_t> values_us) {
  Distribution out;
  if (values_us.empty()) return out;
  std::sort(values_us.begin(), values_us.end());
  out.count = values_us.size();
  out.mean = std::accumulate(values_us.begin(), values_us.end(), 0.0) / static_cast<double>(out.count) / 1e3;
  out.p50 = Percentile(values_us, 0.50) / 1e3;
  out.p90 = Percentile(values_us, 0.90) / 1e3;
  out.p99 = Percentile(values_us, 0.99) / 1e3;
  out.most = static_cast<double>(values_us.back()) / 1e3;
  return out;
}

BenchReport Summarize(const std::vector<BenchOutcome>& outcomes, const ServiceLevel& limits) {
  BenchReport report;
  report.offered = outcomes.size();
  if (outcomes.empty()) return report;
  int64_t first_due = outcomes[0].due_us, last_due = first_due, last_message = 0;
  std::vector<int64_t> ttft, tpot, itl, e2e, late;
  for (const BenchOutcome& outcome : outcomes) {
    first_due = std::min(first_due, outcome.due_us);
    last_due = std::max(last_due, outcome.due_us);
    last_message = std::max(last_message, outcome.last_us);
    late.push_back(outcome.sent_us - outcome.due_us);
    report.within_limits += Meets(outcome, limits) ? 1 : 0;
    if (outcome.end != BenchOutcome::End::kCompleted) {
      ++(outcome.end == BenchOutcome::End::kRejected ? report.rejected : report.failed);
      ++report.reasons[outcome.reason];
      continue;
    }
    ++report.completed;
    report.prompt_tokens += outcome.prompt_tokens;
    report.cached_tokens += outcome.cached_tokens;
    report.output_tokens += outcome.tokens;
    e2e.push_back(outcome.last_us - outcome.due_us);
    if (outcome.tokens > 0) ttft.push_back(outcome.first_us - outcome.due_us);
    if (outcome.tokens > 1) tpot.push_back(TimePerToken(outcome));
    itl.insert(itl.end(), outcome.gaps_us.begin(), outcome.gaps_us.end());
  }
  report.seconds = static_cast<double>(last_message - first_due) / 1e6;
  // n requests span n - 1 gaps.
  if (last_due > first_due)
    report.offered_rate = static_cast<double>(report.offered - 1) / (static_cast<double>(last_due - first_due) / 1e6);
  report.completed_rate = Share(report.completed, report.seconds);
  report.goodput = Share(report.within_limits, report.seconds);
  report.output_token_rate = Share(report.output_tokens, report.seconds);
  report.ttft = Distribute(std::move(ttft));
  report.tpot = Distribute(std::move(tpot));
  report.itl = Distribute(std::move(itl));
  report.e2e = Distribute(std::move(e2e));
  report.lateness = Distribute(std::move(late));
  return report;
}

}  // namespace tandem::client::ctl
