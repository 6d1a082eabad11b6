#include "worker/cuda/launch.h"
#include "worker/cuda/ops/pool.h"
#include "worker/cuda/ops/reduce.h"
#include "worker/cuda/ops/shared.h"

namespace tandem::worker::cuda {
namespace {

constexpr unsigned int kThreads = 256;

__global__ void __launch_bounds__(kThreads) PoolKernel(PoolArgs args) {
  TANDEM_SHARED(float, sums, 32);
  const int32_t text = static_cast<int32_t>(blockIdx.x);
  const int64_t begin = args.token_begin != nullptr ? args.token_begin[text] : text;
  const int64_t end = args.token_begin != nullptr ? args.token_begin[text + 1] : text + 1;
  const int64_t hidden = args.hidden;
  float* const out = args.output + (args.places != nullptr ? args.places[text] : text) * hidden;
  float square = 0;
  for (int32_t column = static_cast<int32_t>(threadIdx.x); column < hidden; column += kThreads) {
    const float* const states = args.states + column;
    float value = states[(args.pooling == model::Pooling::kLast ? end - 1 : begin) * hidden];
    if (args.pooling == model::Pooling::kMean || args.pooling == model::Pooling::kMax) {
      for (int64_t token = begin + 1; token < end; ++token) {
        const float state = states[token * hidden];
        value = args.pooling == model::Pooling::kMax ? fmaxf(value, state) : value + state;
      }
    }
    if (args.pooling == model::Pooling::kMean) value /= static_cast<float>(end - begin);
    out[column] = value;
    square += value * value;
  }
  if (!args.normalize) return;
  const float length = sqrtf(BlockSum(square, sums));
  const float scale = 1.0f / fmaxf(length, 1e-12f);
  // Each thread has written what it reads.
  for (int32_t column = static_cast<int32_t>(threadIdx.x); column < hidden; column += kThreads) out[column] *= scale;
}

}  // namespace

absl::Status Pool(const PoolArgs& args, cudaStream_t stream) {
  return Launch("Pool", &PoolKernel, {dim3(static_cast<unsigned int>(args.texts)), dim3(kThreads)}, stream, args);
}

}  // namespace tandem::worker::cuda
