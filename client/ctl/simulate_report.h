// What `tandemctl simulate` tells of a run: the figures that `bench` tells of a real service, counted by the same code,
// as one JSON object a policy, or as a table for people.
#ifndef TANDEM_CLIENT_CTL_SIMULATE_REPORT_H_
#define TANDEM_CLIENT_CTL_SIMULATE_REPORT_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "client/ctl/bench_stats.h"
#include "simulate/simulation.h"

namespace tandem::client::ctl {

// What the reports of one command have in common.
struct SimulateHeader {
  std::string trace, cluster, model;  // as given
  double load_factor = 1;
  uint64_t seed = 1;
  int64_t slo_ttft_ms = 0, slo_tpot_ms = 0;
};

struct SimulateReport {
  std::string policy;
  BenchReport figures;
  uint64_t prompt_tokens = 0, cached_tokens = 0;  // of requests that an engine began
  uint64_t preemptions = 0;
  double decision_p50_us = 0, decision_p99_us = 0;
  int groups = 0, tensor_parallel = 1;
  int64_t kv_tokens = 0;
  double simulated_seconds = 0;

  double hit_share() const {
    return prompt_tokens == 0 ? 0 : static_cast<double>(cached_tokens) / static_cast<double>(prompt_tokens);
  }
  double goodput_share() const {
    return figures.offered == 0 ? 0 : static_cast<double>(figures.within_limits) / static_cast<double>(figures.offered);
  }
};

SimulateReport MakeReport(const std::string& policy, const simulate::SimResult& result, const SimulateHeader& header);

nlohmann::ordered_json ToJson(const SimulateHeader& header, const SimulateReport& report);
// REQUIRES: `reports` is not empty; all are of one fleet.
std::string ToTable(const SimulateHeader& header, const std::vector<SimulateReport>& reports);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_SIMULATE_REPORT_H_
