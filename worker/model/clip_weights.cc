#include "worker/model/clip_weights.h"

#include <utility>

#include "base/model/clip_memory.h"
#include "worker/model/clip_tensors.h"
#include "worker/model/tensor_reader.h"

namespace tandem::worker {

using model::ClipConfig;
using model::WeightFiles;

absl::Status CheckClipWeights(const ClipConfig& config, const WeightFiles& files) {
  ClipWeights unused;
  TensorChecker checker(files);
  VisitClipTensors(config, &unused, checker);
  return checker.status();
}

absl::StatusOr<ClipWeights> LoadClipWeights(const ClipConfig& config, const WeightFiles& files, model::DType stored) {
  absl::StatusOr<MemoryArena> arena = MemoryArena::Map(model::ClipWeightBytes(config, stored));
  if (!arena.ok()) return arena.status();
  ClipWeights weights;
  weights.arena = *std::move(arena);
  TensorLoader loader(files, stored, &weights.arena);
  VisitClipTensors(config, &weights, loader);
  weights.vector_bytes = loader.vector_bytes();
  weights.packed_bytes = loader.packed_bytes();
  return weights;
}

}  // namespace tandem::worker
