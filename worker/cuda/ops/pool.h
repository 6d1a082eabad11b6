// One vector of each text's hidden states, as an embedding model gives it.
//
// One block owns one text: its bits do not depend on the other texts of the batch.
#ifndef TANDEM_WORKER_CUDA_OPS_POOL_H_
#define TANDEM_WORKER_CUDA_OPS_POOL_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "absl/status/status.h"
#include "base/model/encoder_config.h"

namespace tandem::worker::cuda {

struct PoolArgs {
  const float* states = nullptr;  // [tokens][hidden]
  // Text t has the states [token_begin[t], token_begin[t + 1]), at least one.
  const int32_t* token_begin = nullptr;  // [texts + 1], device; null: every text has one state
  int32_t texts = 0;
  int32_t hidden = 0;
  model::Pooling pooling = model::Pooling::kMean;
  bool normalize = false;           // to length 1; a vector of length 0 stays as it is
  const int32_t* places = nullptr;  // [texts], device: the row of `output` that text t gets, none twice; null: row t
  float* output = nullptr;          // [texts][hidden]
};

absl::Status Pool(const PoolArgs& args, cudaStream_t stream);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_OPS_POOL_H_
