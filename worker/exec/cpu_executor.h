// Loads one rank's slice of a decoder model and computes it on the CPU: the reference for every other executor.
//
// Weights are stored in bf16 or fp32, packed once at load into the layout that the kernels stream; activations and sums
// are fp32. Every output element is summed over K in one fixed order, and attention walks KV tiles of absolute
// positions, so the bits of a sequence do not depend on its neighbours, its chunks or its cached prefix. The kernels
// are chosen at load by what the CPU can do, or stepped down by `isa`; the choice is part of numerics_id().
//
// All memory is taken here and in AllocateKv; a step allocates nothing. Every check that needs only the files (config,
// tensor names, shapes, divisibility, bytes against free memory) comes before memory is taken.
#ifndef TANDEM_WORKER_EXEC_CPU_EXECUTOR_H_
#define TANDEM_WORKER_EXEC_CPU_EXECUTOR_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/comm/communicator.h"
#include "worker/exec/executor.h"

namespace tandem::worker {

struct CpuModelOptions {
  std::string folder;          // holds config.json and *.safetensors; a resolved path, see base/model/model_folder.h
  std::string dtype = "auto";  // auto | float32 | bfloat16; auto: bfloat16 where the config says so, else float32
  std::string isa = "auto";    // auto | generic | avx2 | avx512 | avx512_bf16; more than the CPU has is refused
  int threads = 1;             // of this rank; columns are shared out, so the bits stay
  int32_t max_batch_tokens = 512;  // sum of tokens in one step, sizes the arena
  int32_t max_sequences = 64;      // sequences in one step
  int64_t memory_limit_bytes = 0;  // for weights and arena; 0: what the machine has free now
};

// REQUIRES: `communicator` outlives the executor; its rank and size choose the slice.
// On error nothing is held. Errors name the field, tensor or number that stands in the way.
absl::StatusOr<std::unique_ptr<Executor>> LoadCpuModel(const CpuModelOptions& options, Communicator* communicator);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_CPU_EXECUTOR_H_
