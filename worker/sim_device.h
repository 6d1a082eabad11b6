// A GPU that is not there, for tests and rehearsals: named as on the command line, "sim:RTX3090" or "sim:RTX3090:3"
// (index 3 of its node), with the memory and the speed of its data sheet. What it computes is in exec/sim_executor.h.
//
// Memory is a number that loads take from. Any thread.
#ifndef TANDEM_WORKER_SIM_DEVICE_H_
#define TANDEM_WORKER_SIM_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "placement/topology/chip.h"
#include "worker/device.h"
#include "worker/exec/sim_executor.h"

namespace tandem::worker {

struct SimDeviceOptions {
  std::string spec = "sim:RTX3090";
  int offset = 0;      // added to the index that `spec` names, where one process has several
  std::string node;    // empty: the host's name
  int64_t memory = 0;  // bytes; 0: the chip's, where it comes in one size
  double memory_utilization = 0.9;
  int64_t reserve = 0;  // bytes left to others, before the utilisation
};

class SimDevice final : public Device {
 public:
  static bool IsSim(absl::string_view spec);

  // INVALID_ARGUMENT, naming the chips that are known or the number that is wrong.
  static absl::StatusOr<std::unique_ptr<SimDevice>> Open(const SimDeviceOptions& options);

  int64_t FreeBytes() const override { return Budget() - memory_.taken(); }
  int64_t FreeOfTotal() const override { return memory_total() - memory_.taken(); }
  int64_t HeldBytes() const override { return memory_.taken(); }
  int64_t ExactHeldBytes() const override { return memory_.taken(); }

  const placement::Chip& chip() const { return *chip_; }
  SimMemory& memory() { return memory_; }

 private:
  SimDevice() = default;

  const placement::Chip* chip_ = nullptr;
  SimMemory memory_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_SIM_DEVICE_H_
