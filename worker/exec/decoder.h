// Computes steps of a decoder: embedding, layers, logits. Families differ in data only (base/model/model_config.h).
//
// The residual stream is float32 and equal on all ranks; each half of a layer computes its slice and ends in one sum
// over the ranks. All buffers come from one arena; the query, key, value buffers and the MLP's share a part of it,
// because a layer never needs both. Belongs to the engine thread.
#ifndef TANDEM_WORKER_EXEC_DECODER_H_
#define TANDEM_WORKER_EXEC_DECODER_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/model/model_config.h"
#include "base/model/model_memory.h"
#include "worker/comm/communicator.h"
#include "worker/exec/executor.h"
#include "worker/exec/kv_pool.h"
#include "worker/exec/ops/cpu_kernels.h"
#include "worker/exec/ops/rope.h"
#include "worker/exec/thread_team.h"
#include "worker/model/decoder_weights.h"
#include "worker/model/memory_arena.h"

namespace tandem::worker {

class Decoder {
 public:
  struct Limits {
    int32_t max_batch_tokens = 0;
    int32_t max_sequences = 0;
  };

  // `arena` is empty memory of ArenaSizes::total_bytes. The pointers outlive the decoder.
  Decoder(const model::DecoderConfig& config, const model::RankShape& shape, Limits limits, DecoderWeights weights,
          MemoryArena arena, const CpuKernels* kernels, int threads, Communicator* communicator);

  // As Executor::Run, with the step checked.
  absl::StatusOr<absl::Span<const float>> Run(const StepInput& step, KvPool* kv, std::atomic<uint64_t>* progress);

  const DecoderWeights& weights() const { return weights_; }
  int64_t arena_bytes() const { return arena_.bytes(); }

 private:
  absl::Status Embed(const StepInput& step);
  void Norm(const NormWeights& norm, const float* input, float* output, int64_t rows);
  // The heads of one row, in their place.
  void NormHeads(const float* weight, int64_t heads, float* row);
  // Some kernels round the input in its place: its rows are spent.
  void Matmul(const LinearWeights& linear, float* input, int64_t input_stride, int64_t rows, float* output,
              int64_t output_stride);
  absl::Status AttentionBlock(const LayerWeights& layer, int32_t index, const StepInput& step, KvPool* kv);
  absl::Status MlpBlock(const LayerWeights& layer);
  // Sums `normed_` over the ranks, and adds it to the residual stream.
  absl::Status AddToResidual();
  absl::StatusOr<absl::Span<const float>> Logits(const StepInput& step);

  const model::DecoderConfig config_;
  const model::RankShape shape_;
  const DecoderWeights weights_;
  const CpuKernels& kernels_;
  Communicator& communicator_;
  const Rope rope_;
  ThreadTeam team_;

  MemoryArena arena_;
  float* residual_;         // [tokens][hidden]
  float* normed_;           // [tokens][hidden]
  float* scratch_;          // attention: [tokens][qkv], [tokens][heads]; MLP: [tokens][gate | up]
  float* attended_;         // the second half of `scratch_` in attention
  float* rotation_;         // [tokens][head_dim]
  float* local_logits_;     // [sequences][vocab of this rank]
  float* gathered_logits_;  // [ranks][sequences][vocab of a rank]
  float* logits_;           // [sequences][vocab]
  int64_t tokens_ = 0;      // of the step that runs
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_DECODER_H_
