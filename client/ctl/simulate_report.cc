#include "client/ctl/simulate_report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/ctl/print.h"

namespace tandem::client::ctl {
namespace {

using Json = nlohmann::ordered_json;

std::string SloName(const SimulateHeader& header) {
  return absl::StrFormat("ttft=%dms,tpot=%dms", header.slo_ttft_ms, header.slo_tpot_ms);
}

Json ToJson(const Distribution& d) { return {{"p50", d.p50}, {"p90", d.p90}, {"p99", d.p99}}; }

// For one run: every metric in a line of its own.
std::string OneRun(const SimulateReport& report, const std::string& slo) {
  const BenchReport& f = report.figures;
  std::string text = absl::StrFormat("requests   %d offered (%.2f/s), %d completed, %d rejected\n", f.offered,
                                     f.offered_rate, f.completed, f.rejected);
  for (const auto& [reason, count] : f.reasons) absl::StrAppendFormat(&text, "           %d x %s\n", count, reason);
  const auto times = [&](const char* name, const Distribution& d) {
    absl::StrAppendFormat(&text, "%-10s p50 %.1f ms, p90 %.1f ms, p99 %.1f ms\n", name, d.p50, d.p90, d.p99);
  };
  times("TTFT", f.ttft);
  times("TPOT", f.tpot);
  times("E2E", f.e2e);
  absl::StrAppendFormat(&text, "goodput    %.2f/s, %.1f %% of the offered requests within %s\n", f.goodput,
                        100 * report.goodput_share(), slo);
  absl::StrAppendFormat(&text, "prefix     %.1f %% of the prompts' tokens were in a cache\n", 100 * report.hit_share());
  absl::StrAppendFormat(&text, "output     %d tokens, %.1f/s\n", f.output_tokens, f.output_token_rate);
  absl::StrAppendFormat(&text, "preempted  %d times\n", report.preemptions);
  absl::StrAppendFormat(&text, "decision   p50 %.2f us, p99 %.2f us, of this machine's time\n", report.decision_p50_us,
                        report.decision_p99_us);
  return text;
}

}  // namespace

SimulateReport MakeReport(const std::string& policy, const simulate::SimResult& result, const SimulateHeader& header) {
  SimulateReport report{.policy = policy,
                        .groups = result.groups,
                        .tensor_parallel = result.tensor_parallel,
                        .kv_tokens = result.kv_tokens,
                        .simulated_seconds = result.simulated_seconds};
  std::vector<BenchOutcome> outcomes;
  outcomes.reserve(result.outcomes.size());
  for (const simulate::SimOutcome& one : result.outcomes) {
    BenchOutcome& outcome = outcomes.emplace_back();
    outcome.end = one.completed ? BenchOutcome::End::kCompleted : BenchOutcome::End::kRejected;
    outcome.reason = one.reason;
    outcome.due_us = outcome.sent_us = one.due_us;
    outcome.first_us = one.first_us;
    outcome.last_us = one.last_us;
    outcome.tokens = one.output_tokens;
    outcome.prompt_tokens = one.prompt_tokens;
    outcome.cached_tokens = one.cached_tokens;
    report.preemptions += one.preemptions;
    if (!one.completed) continue;
    report.prompt_tokens += one.prompt_tokens;
    report.cached_tokens += one.cached_tokens;
  }
  report.figures =
      Summarize(outcomes, {.ttft_us = header.slo_ttft_ms * 1000, .tpot_us = header.slo_tpot_ms * 1000, .e2e_us = {}});
  std::vector<int64_t> decisions = result.decisions_ns;
  std::sort(decisions.begin(), decisions.end());
  if (!decisions.empty()) {
    report.decision_p50_us = Percentile(decisions, 0.5) / 1000;
    report.decision_p99_us = Percentile(decisions, 0.99) / 1000;
  }
  return report;
}

Json ToJson(const SimulateHeader& header, const SimulateReport& report) {
  const BenchReport& f = report.figures;
  return {{"trace", header.trace},
          {"cluster", header.cluster},
          {"model", header.model},
          {"policy", report.policy},
          {"load_factor", header.load_factor},
          {"seed", header.seed},
          {"groups", report.groups},
          {"tensor_parallel", report.tensor_parallel},
          {"kv_tokens_per_group", report.kv_tokens},
          {"offered", f.offered},
          {"completed", f.completed},
          {"rejected", f.rejected},
          {"reasons", f.reasons},
          {"offered_per_s", f.offered_rate},
          {"ttft_ms", ToJson(f.ttft)},
          {"tpot_ms", ToJson(f.tpot)},
          {"e2e_ms", ToJson(f.e2e)},
          {"goodput",
           {{"slo", SloName(header)},
            {"slo_ttft_ms", header.slo_ttft_ms},
            {"slo_tpot_ms", header.slo_tpot_ms},
            {"requests", f.within_limits},
            {"share", report.goodput_share()},
            {"per_s", f.goodput}}},
          {"prompt_tokens", report.prompt_tokens},
          {"prefix_hit_tokens", report.cached_tokens},
          {"prefix_hit_share", report.hit_share()},
          {"output_tokens", f.output_tokens},
          {"output_tokens_per_s", f.output_token_rate},
          {"preemptions", report.preemptions},
          {"simulated_s", report.simulated_seconds},
          {"decision_us", {{"p50", report.decision_p50_us}, {"p99", report.decision_p99_us}}}};
}

std::string ToTable(const SimulateHeader& header, const std::vector<SimulateReport>& reports) {
  const SimulateReport& first = reports.front();
  const std::string slo = SloName(header);
  std::string text = absl::StrFormat(
      "%s on %s: %s, %d groups of TP=%d with %d tokens of KV each, load x %g, seed %d, %s\n", header.trace,
      header.cluster, header.model, first.groups, first.tensor_parallel, first.kv_tokens, header.load_factor,
      header.seed, reports.size() == 1 ? absl::StrCat("policy ", first.policy) : absl::StrCat("goodput at ", slo));
  if (reports.size() == 1) return text + OneRun(first, slo);
  Table table({"POLICY", "COMPLETED", "REJECTED", "TTFT P50", "P90", "P99 MS", "TPOT P50", "P99 MS", "E2E P99 S",
               "GOODPUT", "PREFIX HITS", "PREEMPTED", "DECISION P50", "P99 US"});
  const auto cell = [](double number) { return absl::StrFormat("%.1f", number); };
  for (const SimulateReport& report : reports) {
    const BenchReport& f = report.figures;
    table.Add({report.policy, absl::StrCat(f.completed), absl::StrCat(f.rejected), cell(f.ttft.p50), cell(f.ttft.p90),
               cell(f.ttft.p99), cell(f.tpot.p50), cell(f.tpot.p99), cell(f.e2e.p99 / 1000),
               absl::StrFormat("%.1f %%", 100 * report.goodput_share()),
               absl::StrFormat("%.1f %%", 100 * report.hit_share()), absl::StrCat(report.preemptions),
               absl::StrFormat("%.2f", report.decision_p50_us), absl::StrFormat("%.2f", report.decision_p99_us)});
  }
  return text + table.ToString();
}

}  // namespace tandem::client::ctl
