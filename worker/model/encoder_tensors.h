// The tensors of an encoder by the names that its files give them, in one order: for checking, for loading and for
// planning alike.
#ifndef TANDEM_WORKER_MODEL_ENCODER_TENSORS_H_
#define TANDEM_WORKER_MODEL_ENCODER_TENSORS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/model/encoder_config.h"
#include "base/model/safetensors.h"
#include "worker/model/tensor_visits.h"

namespace tandem::worker {

// Checkpoints of a model with a head have a first component more in their names than bare ones.
inline bool NamesAreBare(const model::WeightFiles& files) {
  return files.Find("embeddings.word_embeddings.weight") != nullptr;
}

// `weights` is EncoderWeights or what has members of the same names, EncoderPlan. `reader` has
//   Table(name, rows, columns, out)            row by row
//   Vector(names, count of each, out)          one behind the other
//   Matrix(names, columns of each, inner, out) side by side
// with overloads for the members' types.
template <typename Weights, typename Reader>
void VisitEncoderTensors(const model::EncoderConfig& config, bool bare, Weights* weights, Reader& reader) {
  const int64_t hidden = config.hidden;
  const bool bert = config.naming == model::EncoderNaming::kBert;
  const std::string root = bare ? "" : bert ? "bert." : "roberta.";
  using Names = std::vector<std::string>;
  const auto linear = [&](const Names& names, int64_t columns, int64_t inner, auto* out) {
    VisitLinearTensors(names, columns, inner, out, reader);
  };
  const auto norm = [&](const std::string& name, auto* out) { VisitNormTensors(name, hidden, out, reader); };
  const std::string embeddings = root + "embeddings.";
  reader.Table(embeddings + "word_embeddings.weight", config.vocab, hidden, &weights->words);
  reader.Table(embeddings + "position_embeddings.weight", config.positions, hidden, &weights->positions);
  reader.Table(embeddings + "token_type_embeddings.weight", config.types, hidden, &weights->types);
  norm(embeddings + "LayerNorm", &weights->embedding_norm);
  weights->layers.resize(static_cast<size_t>(config.layers));
  for (int32_t i = 0; i < config.layers; ++i) {
    const std::string prefix = absl::StrCat(root, "encoder.layer.", i, ".");
    const std::string self = prefix + "attention.self.";
    auto& layer = weights->layers[static_cast<size_t>(i)];
    linear({self + "query", self + "key", self + "value"}, hidden, hidden, &layer.qkv);
    linear({prefix + "attention.output.dense"}, hidden, hidden, &layer.attention_out);
    norm(prefix + "attention.output.LayerNorm", &layer.attention_norm);
    linear({prefix + "intermediate.dense"}, config.intermediate, hidden, &layer.mlp_in);
    linear({prefix + "output.dense"}, hidden, config.intermediate, &layer.mlp_out);
    norm(prefix + "output.LayerNorm", &layer.mlp_norm);
  }
  if (config.head != model::EncoderHead::kClassifier) return;
  linear({bert ? root + "pooler.dense" : "classifier.dense"}, hidden, hidden, &weights->head_dense);
  linear({bert ? "classifier" : "classifier.out_proj"}, config.labels, hidden, &weights->head_out);
}

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_MODEL_ENCODER_TENSORS_H_
