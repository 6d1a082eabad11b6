#include "worker/model/encoder_weights.h"

#include <utility>

#include "base/model/encoder_memory.h"
#include "worker/model/encoder_tensors.h"
#include "worker/model/tensor_reader.h"

namespace tandem::worker {

using model::EncoderConfig;
using model::WeightFiles;

absl::Status CheckEncoderWeights(const EncoderConfig& config, const WeightFiles& files) {
  EncoderWeights unused;
  TensorChecker checker(files);
  VisitEncoderTensors(config, NamesAreBare(files), &unused, checker);
  return checker.status();
}

absl::StatusOr<EncoderWeights> LoadEncoderWeights(const EncoderConfig& config, const WeightFiles& files,
                                                  model::DType stored) {
  absl::StatusOr<MemoryArena> arena = MemoryArena::Map(model::EncoderWeightBytes(config, stored));
  if (!arena.ok()) return arena.status();
  EncoderWeights weights;
  weights.arena = *std::move(arena);
  TensorLoader loader(files, stored, &weights.arena);
  VisitEncoderTensors(config, NamesAreBare(files), &weights, loader);
  weights.vector_bytes = loader.vector_bytes();
  weights.packed_bytes = loader.packed_bytes();
  return weights;
}

}  // namespace tandem::worker
