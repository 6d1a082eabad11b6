// What each kernel of a decode step has to move and to compute at the least: no kernel is faster than the device's
// memory and its tensor cores allow for that, so time against bound says how much is left.
//
// Bytes that are read or written count once for a launch, however often they are asked for: weights, cache, activations
// and partial results, not the lengths, tables and lists of a step, which are a few KiB. kernel_counts_test holds the
// figures to the sectors that the kernels touch under emulation. One rank, elements of two bytes, float32 residuals.
#ifndef TANDEM_WORKER_CUDA_OPS_KERNEL_WORK_H_
#define TANDEM_WORKER_CUDA_OPS_KERNEL_WORK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/model/model_config.h"

namespace tandem::worker::cuda {

// Of one launch.
struct KernelWork {
  std::string name;
  int64_t launches = 1;  // in a step
  int64_t read = 0;      // bytes
  int64_t written = 0;
  int64_t operations = 0;  // of the products, a multiplication with its addition as two

  int64_t bytes() const { return read + written; }
};

// output[rows][columns] of `output_bytes` each; `adds`: to what is there.
KernelWork ProductWork(int64_t rows, int64_t columns, int64_t inner, int64_t output_bytes, bool adds);
// Nothing is added before it.
KernelWork NormWork(int64_t rows, int64_t hidden);
KernelWork CacheKvWork(int64_t rows, int64_t heads, int64_t kv_heads, int64_t head_dim);
// All sequences as long, with the combination of the partitions that they have at this max_context.
KernelWork DecodeAttentionWork(int64_t sequences, int64_t context, int64_t heads, int64_t kv_heads, int64_t head_dim,
                               int32_t max_context);
// Gated.
KernelWork ActivateWork(int64_t rows, int64_t inner);
// Of float32 logits, the best one.
KernelWork BestTokensWork(int64_t rows, int64_t columns);

// A step of a gated model with rotary positions, greedy: `batch` sequences of `context` tokens. Left out are the two
// kernels before the first layer, which move less than one norm does.
std::vector<KernelWork> DecodeStepWork(const model::DecoderConfig& config, int64_t batch, int64_t context);

// Seconds of one launch at best.
double BoundOf(const KernelWork& work, double bytes_per_second, double operations_per_second);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_OPS_KERNEL_WORK_H_
