// Picks rows: the last token of every sequence that is sampled, as the output layer wants them.
#ifndef TANDEM_WORKER_CUDA_OPS_GATHER_H_
#define TANDEM_WORKER_CUDA_OPS_GATHER_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "absl/status/status.h"
#include "base/model/dtype.h"

namespace tandem::worker::cuda {

// output[r] = input[row_index[r]]; a row below zero is set to zero.
struct GatherArgs {
  const void* input = nullptr;         // [*][columns] of `type`, any of the three
  const int32_t* row_index = nullptr;  // [rows], device
  void* output = nullptr;              // [rows][columns]
  model::DType type = model::DType::kBFloat16;
  int64_t rows = 0;
  int64_t columns = 0;
};

absl::Status GatherRows(const GatherArgs& args, cudaStream_t stream);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_OPS_GATHER_H_
