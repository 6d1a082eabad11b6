#include "worker/model/clip_weights.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/model/clip_memory.h"
#include "worker/model/tensor_reader.h"

namespace tandem::worker {
namespace {

using model::ClipConfig;
using model::ClipTower;
using model::WeightFiles;

template <typename Reader>
void VisitLinear(const std::vector<std::string>& names, int64_t columns, int64_t inner, LinearWeights* out,
                 Reader& reader) {
  std::vector<std::string> weight_names, bias_names;
  for (const std::string& name : names) {
    weight_names.push_back(name + ".weight");
    bias_names.push_back(name + ".bias");
  }
  reader.Matrix(weight_names, columns, inner, &out->weight);
  reader.Vector(bias_names, columns, &out->bias);
}

template <typename Reader>
void VisitNorm(const std::string& name, int64_t hidden, NormWeights* out, Reader& reader) {
  reader.Vector({name + ".weight"}, hidden, &out->weight);
  reader.Vector({name + ".bias"}, hidden, &out->bias);
}

// Names of the projection and of the last norm differ between the towers.
template <typename Reader>
void VisitTower(const ClipTower& tower, const std::string& root, const char* last_norm, const char* projection,
                int64_t vector, ClipTowerWeights* weights, Reader& reader) {
  const int64_t hidden = tower.hidden;
  reader.Table(root + "embeddings.position_embedding.weight", tower.positions, hidden, &weights->positions);
  weights->layers.resize(static_cast<size_t>(tower.layers));
  for (int32_t i = 0; i < tower.layers; ++i) {
    const std::string prefix = absl::StrCat(root, "encoder.layers.", i, ".");
    const std::string self = prefix + "self_attn.";
    LayerWeights& layer = weights->layers[static_cast<size_t>(i)];
    VisitNorm(prefix + "layer_norm1", hidden, &layer.attention_norm, reader);
    VisitLinear({self + "q_proj", self + "k_proj", self + "v_proj"}, hidden, hidden, &layer.qkv, reader);
    VisitLinear({self + "out_proj"}, hidden, hidden, &layer.attention_out, reader);
    VisitNorm(prefix + "layer_norm2", hidden, &layer.mlp_norm, reader);
    VisitLinear({prefix + "mlp.fc1"}, tower.intermediate, hidden, &layer.mlp_in, reader);
    VisitLinear({prefix + "mlp.fc2"}, hidden, tower.intermediate, &layer.mlp_out, reader);
  }
  VisitNorm(root + last_norm, hidden, &weights->last_norm, reader);
  reader.Matrix({projection}, vector, hidden, &weights->projection.weight);
}

// Walks all tensors in one order, for checking and for loading alike (tensor_reader.h).
template <typename Reader>
void Visit(const ClipConfig& config, ClipWeights* weights, Reader& reader) {
  const std::string text = "text_model.";
  const std::string image = "vision_model.";
  reader.Table(text + "embeddings.token_embedding.weight", config.vocab, config.text.hidden, &weights->words);
  VisitTower(config.text, text, "final_layer_norm", "text_projection.weight", config.vector, &weights->text, reader);
  reader.Vector({image + "embeddings.class_embedding"}, config.image.hidden, &weights->class_token);
  reader.Matrix({image + "embeddings.patch_embedding.weight"}, config.image.hidden, config.patch_values(),
                &weights->patches.weight);
  VisitNorm(image + "pre_layrnorm", config.image.hidden, &weights->first_norm, reader);  // spelled so in every file
  VisitTower(config.image, image, "post_layernorm", "visual_projection.weight", config.vector, &weights->image, reader);
}

}  // namespace

absl::Status CheckClipWeights(const ClipConfig& config, const WeightFiles& files) {
  ClipWeights unused;
  TensorChecker checker(files);
  Visit(config, &unused, checker);
  return checker.status();
}

absl::StatusOr<ClipWeights> LoadClipWeights(const ClipConfig& config, const WeightFiles& files, model::DType stored) {
  absl::StatusOr<MemoryArena> arena = MemoryArena::Map(model::ClipWeightBytes(config, stored));
  if (!arena.ok()) return arena.status();
  ClipWeights weights;
  weights.arena = *std::move(arena);
  TensorLoader loader(files, stored, &weights.arena);
  Visit(config, &weights, loader);
  weights.vector_bytes = loader.vector_bytes();
  weights.packed_bytes = loader.packed_bytes();
  return weights;
}

}  // namespace tandem::worker
