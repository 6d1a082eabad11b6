// Loads an encoder onto a CUDA device and computes it there, behind the interface that decoders have: a step takes
// whole texts, with CLIP pictures too, and Run gives each one's vector in the place of logits.
// worker/exec/cpu_encoder.h is the reference.
//
// Weights and activations are bfloat16 for such files and float16 for all others: hidden states of an encoder are small
// numbers, and the vectors that come of them are compared with each other, so three more bits of mantissa are worth
// more than range. Sums, norms and the residual stream are float32. An input's vector depends in its last bits on how
// many tokens share its step; numerics_id() ends in "/near" to say so.
//
// Memory is taken here, a step allocates nothing; AllocateKv takes none, it only says how much may wait
// (base/model/encoder_memory.h). Waits and their ends are those of cuda_executor.h.
#ifndef TANDEM_WORKER_CUDA_ENCODER_EXECUTOR_H_
#define TANDEM_WORKER_CUDA_ENCODER_EXECUTOR_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/comm/communicator.h"
#include "worker/cuda/cuda_executor.h"
#include "worker/exec/executor.h"

namespace tandem::worker::cuda {

// `task`: embed or rerank. `control` is of one rank, and outlives the executor. Of the options, graphs and
// max_model_len mean nothing here. A folder of CLIP is known by its config.json. On error nothing is held.
absl::StatusOr<std::unique_ptr<Executor>> LoadCudaEncoder(const CudaExecutorOptions& options, absl::string_view task,
                                                          Communicator* control);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_ENCODER_EXECUTOR_H_
