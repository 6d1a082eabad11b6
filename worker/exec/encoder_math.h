// What the encoders of texts and of pictures compute alike: products, norms, attention, an activation, over rows of
// many sequences side by side.
//
// The bits of a row depend on that row, and on its own sequence in attention, alone (cpu_executor.h says why). Holds
// the threads; all buffers are the caller's. Belongs to the engine thread.
#ifndef TANDEM_WORKER_EXEC_ENCODER_MATH_H_
#define TANDEM_WORKER_EXEC_ENCODER_MATH_H_

#include <cstdint>
#include <vector>

#include "worker/exec/ops/cpu_kernels.h"
#include "worker/exec/thread_team.h"
#include "worker/model/decoder_weights.h"

namespace tandem::worker {

class EncoderMath {
 public:
  using Activation = void (*)(const ActivationArgs&);

  // One sequence's part of a layer's attention.
  struct Attention {
    const float* qkv = nullptr;  // [tokens][queries, keys, values: each hidden]
    float* output = nullptr;     // [tokens][hidden]
    int64_t tokens = 0;
    int64_t heads = 0;
    int64_t head_dim = 0;
    bool both_ways = true;   // else a token sees what stands before it, and itself
    float* tiles = nullptr;  // room for keys and values, as TileFloats says
  };
  static int64_t TileFloats(int64_t tokens, int64_t heads, int64_t head_dim);

  // `kernels` outlives this. `max_tokens`: of one sequence.
  EncoderMath(const CpuKernels* kernels, int threads, int64_t max_tokens);

  // output = input * weight + bias. Where the weights are bfloat16 the rows of `input` may be rounded in their place;
  // with `spare`, which has room for them, they are kept.
  void Matmul(const LinearWeights& linear, float* input, int64_t rows, float* output, float* spare = nullptr);

  void Attend(const Attention& attention);

  // rows += more, where that is not null; output = norm(rows), row by row. `output` may be one of the two.
  void AddAndNorm(const NormWeights& norm, double epsilon, float* rows, const float* more, int64_t count,
                  int64_t hidden, float* output);

  // rows += more.
  void Add(float* rows, const float* more, int64_t count);

  void Activate(Activation activation, float* rows, int64_t count, int64_t width);

  const CpuKernels& kernels() const { return kernels_; }

 private:
  void FillTiles(const Attention& attention);

  const CpuKernels& kernels_;
  ThreadTeam team_;
  std::vector<int32_t> tile_ids_;  // 0, 1, 2, ...: the block table of the attention kernel
};

// Brings `count` values to length 1.
void NormalizeVector(float* values, int64_t count);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_ENCODER_MATH_H_
