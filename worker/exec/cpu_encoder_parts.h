// What the executors of encoders on the CPU have alike, texts' (cpu_encoder.h) and CLIP's (cpu_clip.h): how they are
// opened, what they may take, and an executor whose queue stands in the place of a KV pool.
#ifndef TANDEM_WORKER_EXEC_CPU_ENCODER_PARTS_H_
#define TANDEM_WORKER_EXEC_CPU_ENCODER_PARTS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/model/dtype.h"
#include "base/model/model_folder.h"
#include "base/model/safetensors.h"
#include "worker/exec/cpu_executor.h"
#include "worker/exec/executor.h"
#include "worker/exec/ops/cpu_kernels.h"
#include "worker/model/memory_arena.h"

namespace tandem::worker {

// What is known of a model before memory is taken.
struct EncoderSource {
  const CpuKernels* kernels = nullptr;
  model::WeightFiles files;
  model::Manifest manifest;
  model::DType stored = model::DType::kFloat32;  // how the weights are held

  // `of_files`: the type that config.json names.
  static absl::StatusOr<EncoderSource> Open(const CpuModelOptions& options, std::optional<model::DType> of_files);

  // Of an encoder of this kind ("encoder", "clip"); equal ids, equal bits.
  std::string NumericsId(absl::string_view kind, int version) const;
};

// RESOURCE_EXHAUSTED with the figures where all of it does not fit. `decoding`: of pictures; 0: there are none.
absl::Status CheckRoom(const CpuModelOptions& options, int64_t weights, int64_t activations, int64_t decoding);

// Memory that is there, not only promised.
absl::StatusOr<MemoryArena> MapResident(int64_t bytes);

// `Computes` has Run, weights() and arena_bytes(), as Encoder and ClipEncoder.
template <typename Computes>
class CpuVectorExecutor : public Executor {
 public:
  // `decoding`: bytes kept free for pictures.
  CpuVectorExecutor(ModelFacts facts, std::string numerics_id, int64_t decoding, std::unique_ptr<Computes> encoder)
      : facts_(std::move(facts)),
        numerics_id_(std::move(numerics_id)),
        decoding_(decoding),
        encoder_(std::move(encoder)) {}

  const ModelFacts& facts() const override { return facts_; }
  const std::string& numerics_id() const override { return numerics_id_; }
  const std::atomic<uint64_t>& progress() const override { return progress_; }

  MemoryReport memory() const override {
    return {.weight_bytes = encoder_->weights().vector_bytes,
            .packed_bytes = encoder_->weights().packed_bytes,
            .activation_bytes = encoder_->arena_bytes() + decoding_,
            .kv_bytes = queue_blocks_ * facts_.kv_bytes_per_block};
  }

  absl::Status AllocateKv(int32_t num_blocks) override {
    if (num_blocks < 1) return absl::InvalidArgumentError(absl::StrCat("a queue of ", num_blocks, " blocks"));
    queue_blocks_ = num_blocks;
    return absl::OkStatus();
  }

  absl::StatusOr<absl::Span<const float>> Run(const StepInput& step) override {
    if (absl::Status checked = Check(step); !checked.ok()) return checked;
    return encoder_->Run(step, &progress_);
  }

 private:
  // INVALID_ARGUMENT names what of the step is beyond what was loaded for.
  virtual absl::Status Check(const StepInput& step) const = 0;

  const ModelFacts facts_;
  const std::string numerics_id_;
  const int64_t decoding_;
  const std::unique_ptr<Computes> encoder_;
  int64_t queue_blocks_ = 0;
  std::atomic<uint64_t> progress_{0};
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_CPU_ENCODER_PARTS_H_
