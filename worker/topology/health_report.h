// One thing that a device says of its health, and where such things come from.
#ifndef TANDEM_WORKER_TOPOLOGY_HEALTH_REPORT_H_
#define TANDEM_WORKER_TOPOLOGY_HEALTH_REPORT_H_

#include <chrono>
#include <string>
#include <vector>

namespace tandem::worker {

struct HealthReport {
  std::string code;  // "XID 79", "nvlink-down": as in config/tables/device_health.yaml
  std::string message;
  bool lasting = false;  // it holds until it is cleared; else it happened, and that was all
  bool cleared = false;  // what was reported under this code holds no more
  bool operator==(const HealthReport&) const = default;
};

// Belongs to one thread.
class HealthSource {
 public:
  virtual ~HealthSource() = default;
  // What has changed since the last look. May wait for news, for less than a second.
  virtual std::vector<HealthReport> Look() = 0;
  // Between two looks.
  virtual std::chrono::milliseconds Pause() const = 0;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_TOPOLOGY_HEALTH_REPORT_H_
