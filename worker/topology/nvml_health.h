// The health of one GPU by NVML's word: XIDs and memory errors as events that the driver hands out, and by looking what
// it has no events for, or no longer has after the card is gone.
//
//   happened  XID N; ecc-uncorrected, where the count of errors rose and no event said so
//   lasts     device-lost, nvlink-down, nvlink-errors (one look with more of them, until a minute without),
//             thermal-hardware, thermal-software, power-brake (seen in three looks, missed in ten), row-remap-pending,
//             row-remap-failed, pages-pending
//
// What a driver or a card does not tell is not looked at again. An NVLink counts as down when it was up before.
//
// NVML counts XIDs of all processes on the card, and needs no context there.
#ifndef TANDEM_WORKER_TOPOLOGY_NVML_HEALTH_H_
#define TANDEM_WORKER_TOPOLOGY_NVML_HEALTH_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "worker/topology/health_report.h"
#include "worker/topology/nvml_device.h"

namespace tandem::worker {

class NvmlHealth final : public HealthSource {
 public:
  // `device` outlives it.
  explicit NvmlHealth(const NvmlDeviceMonitor* device);
  ~NvmlHealth() override;

  std::vector<HealthReport> Look() override;
  std::chrono::milliseconds Pause() const override { return std::chrono::milliseconds(250); }

 private:
  // A condition that comes and goes: told after `on` looks that saw it, taken back after `off` that did not.
  struct Condition {
    bool told = false;
    int agree = 0;  // looks in a row that speak against `told`
  };
  void Say(const std::string& code, bool there, const std::string& message, int on = 1, int off = 1);
  void Happened(const std::string& code, const std::string& message);

  void TakeEvents();
  bool LookForDevice();
  void LookAtLinks();
  void LookAtClocks();
  void LookAtMemory();

  const NvmlDeviceMonitor* const device_;
  const nvml::Api& api_;
  nvml::EventSet events_ = nullptr;
  std::vector<HealthReport> news_;  // of the look under way
  std::map<std::string, Condition> conditions_;
  std::vector<int> links_up_;                    // that were up at the first look
  std::vector<unsigned long long> link_errors_;  // by link, at the last look
  unsigned long long ecc_errors_ = 0;
  bool first_ = true;
  bool ecc_told_ = false;  // the driver's event came in this look
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_TOPOLOGY_NVML_HEALTH_H_
