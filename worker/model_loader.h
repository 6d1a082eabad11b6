// Loads a model for the engine: finds the folder on this machine, makes sure that it is the one the group means, and
// hands it to the CPU executor within what the device may give.
//
// Answers by the codes that LoadFailure() reads: FAILED_PRECONDITION only where this machine has another revision;
// OUT_OF_RANGE where the device's whole budget would not do; RESOURCE_EXHAUSTED where it would but is taken; anything
// else where the model can not be used.
#ifndef TANDEM_WORKER_MODEL_LOADER_H_
#define TANDEM_WORKER_MODEL_LOADER_H_

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
  // `device` outlives this.
  ModelLoader(const CpuDevice* device, std::string model_root, std::string isa)
      : device_(device), model_root_(std::move(model_root)), isa_(std::move(isa)) {}

  absl::StatusOr<std::unique_ptr<Executor>> Load(const LoadSpec& spec, Communicator* communicator) const;

 private:
  absl::StatusOr<std::string> FindFolder(const LoadSpec& spec) const;

  const CpuDevice* const device_;
  const std::string model_root_;
  const std::string isa_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_MODEL_LOADER_H_
