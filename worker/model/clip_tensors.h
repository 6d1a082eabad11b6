// The tensors of a CLIP model by the names that its files give them, in one order: for checking, for loading and for
// planning alike.
#ifndef TANDEM_WORKER_MODEL_CLIP_TENSORS_H_
#define TANDEM_WORKER_MODEL_CLIP_TENSORS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/model/clip_config.h"
#include "worker/model/tensor_visits.h"

namespace tandem::worker {

// Names of the projection and of the last norm differ between the towers.
template <typename TowerWeights, typename Reader>
void VisitClipTower(const model::ClipTower& tower, const std::string& root, const char* last_norm,
                    const char* projection, int64_t vector, TowerWeights* weights, Reader& reader) {
  const int64_t hidden = tower.hidden;
  reader.Table(root + "embeddings.position_embedding.weight", tower.positions, hidden, &weights->positions);
  weights->layers.resize(static_cast<size_t>(tower.layers));
  for (int32_t i = 0; i < tower.layers; ++i) {
    const std::string prefix = absl::StrCat(root, "encoder.layers.", i, ".");
    const std::string self = prefix + "self_attn.";
    auto& layer = weights->layers[static_cast<size_t>(i)];
    VisitNormTensors(prefix + "layer_norm1", hidden, &layer.attention_norm, reader);
    VisitLinearTensors({self + "q_proj", self + "k_proj", self + "v_proj"}, hidden, hidden, &layer.qkv, reader);
    VisitLinearTensors({self + "out_proj"}, hidden, hidden, &layer.attention_out, reader);
    VisitNormTensors(prefix + "layer_norm2", hidden, &layer.mlp_norm, reader);
    VisitLinearTensors({prefix + "mlp.fc1"}, tower.intermediate, hidden, &layer.mlp_in, reader);
    VisitLinearTensors({prefix + "mlp.fc2"}, hidden, tower.intermediate, &layer.mlp_out, reader);
  }
  VisitNormTensors(root + last_norm, hidden, &weights->last_norm, reader);
  reader.Matrix({projection}, vector, hidden, &weights->projection.weight);
}

// `weights` is ClipWeights or what has members of the same names, ClipPlan. `reader` is as VisitEncoderTensors' in
// encoder_tensors.h.
template <typename Weights, typename Reader>
void VisitClipTensors(const model::ClipConfig& config, Weights* weights, Reader& reader) {
  const std::string text = "text_model.";
  const std::string image = "vision_model.";
  reader.Table(text + "embeddings.token_embedding.weight", config.vocab, config.text.hidden, &weights->words);
  VisitClipTower(config.text, text, "final_layer_norm", "text_projection.weight", config.vector, &weights->text,
                 reader);
  reader.Vector({image + "embeddings.class_embedding"}, config.image.hidden, &weights->class_token);
  reader.Matrix({image + "embeddings.patch_embedding.weight"}, config.image.hidden, config.patch_values(),
                &weights->patches.weight);
  VisitNormTensors(image + "pre_layrnorm", config.image.hidden, &weights->first_norm, reader);  // spelled so everywhere
  VisitClipTower(config.image, image, "post_layernorm", "visual_projection.weight", config.vector, &weights->image,
                 reader);
}

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_MODEL_CLIP_TENSORS_H_
