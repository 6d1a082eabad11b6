// Loads a model for the engine: finds the folder on this machine, makes sure that it is the one the group means, and
// hands it to the device's executor within what the device may give.
//
// Answers by the codes that LoadFailure() reads: FAILED_PRECONDITION only where this machine has another revision;
// OUT_OF_RANGE where the device's whole budget would not do; RESOURCE_EXHAUSTED where it would but is taken; anything
// else where the model can not be used.
#ifndef TANDEM_WORKER_MODEL_LOADER_H_
#define TANDEM_WORKER_MODEL_LOADER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"
#include "worker/device.h"
#include "worker/engine/command.h"
#include "worker/exec/executor.h"

namespace tandem::worker {

class ModelLoader {
 public:
  // Loads the communicator's rank from a folder that was found and compared, with at most `memory_limit_bytes` for
  // weights and arena. Codes as LoadCpuModel.
  using LoadFolder = std::function<absl::StatusOr<std::unique_ptr<Executor>>(
      const std::string& folder, const LoadSpec& spec, int64_t memory_limit_bytes, Communicator* communicator)>;

  // `device` outlives this.
  ModelLoader(const Device* device, std::string model_root, LoadFolder load)
      : device_(device), model_root_(std::move(model_root)), load_(std::move(load)) {}

  absl::StatusOr<std::unique_ptr<Executor>> Load(const LoadSpec& spec, Communicator* communicator) const;

 private:
  absl::StatusOr<std::string> FindFolder(const LoadSpec& spec) const;

  const Device* const device_;
  const std::string model_root_;
  const LoadFolder load_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_MODEL_LOADER_H_
