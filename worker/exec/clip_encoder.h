// Computes steps of a CLIP model: texts and pictures of a step side by side, each to one vector.
//
// The two kinds go through their own towers, one after the other; a step of one kind pays for one. Activations and sums
// are float32. The bits of a vector do not depend on its neighbours in the step. All buffers come from one arena.
// Belongs to the engine thread.
#ifndef TANDEM_WORKER_EXEC_CLIP_ENCODER_H_
#define TANDEM_WORKER_EXEC_CLIP_ENCODER_H_

#include <atomic>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "base/model/clip_config.h"
#include "worker/exec/encoder_math.h"
#include "worker/exec/executor.h"
#include "worker/exec/ops/cpu_kernels.h"
#include "worker/model/clip_weights.h"
#include "worker/model/memory_arena.h"

namespace tandem::worker {

class ClipEncoder {
 public:
  struct Limits {
    int32_t max_batch_tokens = 0;
    int32_t max_sequences = 0;
  };

  // `arena` is empty memory of ClipArena::total_bytes. `kernels` outlives the encoder.
  ClipEncoder(const model::ClipConfig& config, Limits limits, ClipWeights weights, MemoryArena arena,
              const CpuKernels* kernels, int threads);

  // As Executor::Run, with the step checked: a vector for each sequence.
  absl::Span<const float> Run(const StepInput& step, std::atomic<uint64_t>* progress);

  const ClipWeights& weights() const { return weights_; }
  int64_t arena_bytes() const { return arena_.bytes(); }

 private:
  // A sequence of the tower that runs: its rows in `hidden_`, and where its vector goes.
  struct Item {
    const SequenceInput* input;
    size_t index;  // in the step
    int64_t first_row;
    int64_t rows;
    int64_t pooled_row;
  };

  void EmbedTexts();
  void EmbedImages();
  // One row for each patch of `image`, all its red values first, then green, then blue, as a convolution has them.
  void CutPatches(absl::Span<const uint8_t> image, float* rows) const;
  void RunLayers(const model::ClipTower& tower, const ClipTowerWeights& weights, bool both_ways,
                 std::atomic<uint64_t>* progress);
  void Project(const model::ClipTower& tower, const ClipTowerWeights& weights);

  const model::ClipConfig config_;
  const ClipWeights weights_;
  const model::ColourTable colours_;
  EncoderMath math_;
  MemoryArena arena_;
  float* hidden_;            // [tokens][hidden]
  float* normed_;            // [tokens][hidden]
  float* scratch_;           // patches; attention: [tokens][3 hidden], [tokens][hidden]; MLP: [tokens][intermediate]
  float* tiles_;             // of one sequence, see EncoderMath
  float* output_;            // [sequences][vector]
  std::vector<Item> items_;  // of the tower that runs
  int64_t rows_ = 0;         // of all items
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_CLIP_ENCODER_H_
