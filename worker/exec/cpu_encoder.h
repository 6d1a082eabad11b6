// Loads an encoder and computes it on the CPU, behind the interface that decoders have: a step takes whole texts, and
// Run gives each one's vector in the place of logits. One rank: an encoder is small.
//
// Weights are float32 unless the file or `dtype` says bfloat16; activations and sums are float32. Memory is taken here,
// a step allocates nothing; AllocateKv takes none, it only says how much may wait (base/model/encoder_memory.h).
#ifndef TANDEM_WORKER_EXEC_CPU_ENCODER_H_
#define TANDEM_WORKER_EXEC_CPU_ENCODER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"
#include "worker/exec/cpu_executor.h"
#include "worker/exec/executor.h"

namespace tandem::worker {

// `task`: embed or rerank. Otherwise as LoadCpuModel.
absl::StatusOr<std::unique_ptr<Executor>> LoadCpuEncoder(const CpuModelOptions& options, const std::string& task,
                                                         Communicator* communicator);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_CPU_ENCODER_H_
