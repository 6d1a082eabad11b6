// The scheduler's numbers in Prometheus' text format: the core's state as gauges, and what became of requests. The
// list stands in docs/metrics.md. Pure: values in, text out.
#ifndef TANDEM_SCHEDULER_METRICS_TEXT_H_
#define TANDEM_SCHEDULER_METRICS_TEXT_H_

#include <map>
#include <string>

#include "scheduler/metrics_snapshot.h"
#include "scheduler/request_metrics.h"

namespace tandem::scheduler {

struct MetricsFacts {
  std::string version;
  double uptime_seconds = 0;
  bool vllm = false;                                    // vLLM's names too, for dashboards that know them
  std::map<std::string, double> certificate_ends = {};  // seconds since 1970, by door; of those that speak TLS
  uint64_t stale_updates = 0;                           // TokenRouter::stale_updates
  uint64_t slow_clients = 0;                            // SlowClients::dropped
};

std::string MetricsText(const MetricsSnapshot& seen, const RequestMetrics::Snapshot& requests,
                        const MetricsFacts& facts);
// Those of vLLM's names alone.
std::string VllmMetricsText(const MetricsSnapshot& seen, const RequestMetrics::Snapshot& requests);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_METRICS_TEXT_H_
