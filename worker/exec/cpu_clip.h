// Loads a CLIP model and computes it on the CPU: LoadCpuEncoder's other kind, with its rules for weights and memory.
// Pictures come to it as files and are decoded here, one at a time; the memory for that is part of the account.
#ifndef TANDEM_WORKER_EXEC_CPU_CLIP_H_
#define TANDEM_WORKER_EXEC_CPU_CLIP_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/exec/cpu_executor.h"
#include "worker/exec/executor.h"

namespace tandem::worker {

// REQUIRES: one rank, and options that LoadCpuEncoder has checked.
absl::StatusOr<std::unique_ptr<Executor>> LoadCpuClip(const CpuModelOptions& options, const std::string& task);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_CPU_CLIP_H_
