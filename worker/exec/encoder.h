// Computes steps of an encoder: whole texts of any length side by side, without padding, each to one vector.
//
// All products run over the tokens of the step together; attention alone goes from text to text. Activations and sums
// are float32. The bits of a text's vector do not depend on its neighbours in the step, for the reasons that
// cpu_executor.h gives. All buffers come from one arena. Belongs to the engine thread.
#ifndef TANDEM_WORKER_EXEC_ENCODER_H_
#define TANDEM_WORKER_EXEC_ENCODER_H_

#include <atomic>
#include <cstdint>

#include "absl/types/span.h"
#include "base/model/encoder_config.h"
#include "worker/exec/encoder_math.h"
#include "worker/exec/executor.h"
#include "worker/exec/ops/cpu_kernels.h"
#include "worker/model/encoder_weights.h"
#include "worker/model/memory_arena.h"

namespace tandem::worker {

class Encoder {
 public:
  struct Limits {
    int32_t max_batch_tokens = 0;
    int32_t max_sequences = 0;
  };

  // `arena` is empty memory of EncoderArena::total_bytes. `kernels` outlives the encoder.
  Encoder(const model::EncoderConfig& config, Limits limits, EncoderWeights weights, MemoryArena arena,
          const CpuKernels* kernels, int threads);

  // As Executor::Run, with the step checked: a vector for each sequence.
  absl::Span<const float> Run(const StepInput& step, std::atomic<uint64_t>* progress);

  const EncoderWeights& weights() const { return weights_; }
  int64_t arena_bytes() const { return arena_.bytes(); }

 private:
  void Embed(const StepInput& step);
  void Attend(const LayerWeights& layer, const StepInput& step);
  void Mlp(const LayerWeights& layer);
  // hidden = norm(hidden + normed), row by row; without `add` just norm(hidden).
  void AddAndNorm(const NormWeights& norm, bool add);
  void Pool(const float* states, int64_t tokens, float* out) const;
  void Classify(const StepInput& step);

  const model::EncoderConfig config_;
  const EncoderWeights weights_;
  EncoderMath math_;
  MemoryArena arena_;
  float* hidden_;       // [tokens][hidden]
  float* normed_;       // [tokens][hidden]
  float* scratch_;      // attention: [tokens][3 hidden], [tokens][hidden]; MLP: [tokens][intermediate]
  float* attended_;     // the second part of `scratch_` in attention
  float* tiles_;        // of one sequence: [tiles][heads][keys: head_dim x 16 | values: 16 x head_dim], padded
  float* output_;       // [sequences][vector]
  int64_t tokens_ = 0;  // of the step that runs
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_ENCODER_H_
