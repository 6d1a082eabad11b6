// What a device says of its own health, brought to whoever reports it: NVML's word for a GPU (topology/nvml_health.h),
// a file's for a simulated device. What follows is decided by the scheduler.
#ifndef TANDEM_WORKER_DEVICE_HEALTH_H_
#define TANDEM_WORKER_DEVICE_HEALTH_H_

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "worker/topology/health_report.h"

namespace tandem::worker {

// Asks one source on a thread of its own, from construction to destruction. `report` is called on that thread.
class HealthWatch {
 public:
  HealthWatch(std::unique_ptr<HealthSource> source, std::function<void(HealthReport)> report);
  ~HealthWatch();

 private:
  void Run();

  const std::unique_ptr<HealthSource> source_;
  const std::function<void(HealthReport)> report_;
  std::mutex mu_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread thread_;
};

// Conditions that a file lists, for tests: a line each, "XID 79: words" happened, anything else lasts as long as its
// line stands there. A file that is not there says nothing.
class HealthFile final : public HealthSource {
 public:
  explicit HealthFile(std::string path) : path_(std::move(path)) {}
  std::vector<HealthReport> Look() override;
  std::chrono::milliseconds Pause() const override { return std::chrono::milliseconds(50); }

 private:
  const std::string path_;
  std::map<std::string, std::string> there_;  // message by code
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_DEVICE_HEALTH_H_
