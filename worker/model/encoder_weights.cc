#include "worker/model/encoder_weights.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/model/encoder_memory.h"

namespace tandem::worker {
namespace {

using model::EncoderConfig;
using model::TensorView;
using model::WeightFiles;

// Walks all tensors in one order, for checking and for loading alike. `reader` has Table(name, rows, columns, out),
// Vector(names, count of each, out) and Matrix(names, columns of each, inner, out).
template <typename Reader>
void Visit(const EncoderConfig& config, const WeightFiles& files, EncoderWeights* weights, Reader& reader) {
  const int64_t hidden = config.hidden;
  const bool bert = config.naming == model::EncoderNaming::kBert;
  // Checkpoints of a model with a head have a first component more.
  const bool bare = files.Find("embeddings.word_embeddings.weight") != nullptr;
  const std::string root = bare ? "" : bert ? "bert." : "roberta.";
  using Names = std::vector<std::string>;
  const auto linear = [&](const Names& names, int64_t columns, int64_t inner, LinearWeights* out) {
    Names weight_names, bias_names;
    for (const std::string& name : names) {
      weight_names.push_back(name + ".weight");
      bias_names.push_back(name + ".bias");
    }
    reader.Matrix(weight_names, columns, inner, &out->weight);
    reader.Vector(bias_names, columns, &out->bias);
  };
  const auto norm = [&](const std::string& name, NormWeights* out) {
    reader.Vector({name + ".weight"}, hidden, &out->weight);
    reader.Vector({name + ".bias"}, hidden, &out->bias);
  };
  const std::string embeddings = root + "embeddings.";
  reader.Table(embeddings + "word_embeddings.weight", config.vocab, hidden, &weights->words);
  reader.Table(embeddings + "position_embeddings.weight", config.positions, hidden, &weights->positions);
  reader.Table(embeddings + "token_type_embeddings.weight", config.types, hidden, &weights->types);
  norm(embeddings + "LayerNorm", &weights->embedding_norm);
  weights->layers.resize(static_cast<size_t>(config.layers));
  for (int32_t i = 0; i < config.layers; ++i) {
    const std::string prefix = absl::StrCat(root, "encoder.layer.", i, ".");
    const std::string self = prefix + "attention.self.";
    LayerWeights& layer = weights->layers[static_cast<size_t>(i)];
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

class Checker {
 public:
  explicit Checker(const WeightFiles& files) : files_(files) {}

  void Table(const std::string& name, int64_t rows, int64_t columns, const float**) { Check(name, {rows, columns}); }
  void Vector(const std::vector<std::string>& names, int64_t count, const float**) {
    for (const std::string& name : names) Check(name, {count});
  }
  void Matrix(const std::vector<std::string>& names, int64_t columns, int64_t inner, PackedMatrix*) {
    for (const std::string& name : names) Check(name, {columns, inner});
  }

  const absl::Status& status() const { return status_; }

 private:
  void Check(const std::string& name, const std::vector<int64_t>& shape) {
    if (!status_.ok()) return;
    const TensorView* view = files_.Find(name);
    if (view == nullptr) {
      status_ = absl::InvalidArgumentError(absl::StrCat("the weights have no tensor \"", name, "\""));
    } else if (view->info->shape != shape) {
      status_ = absl::InvalidArgumentError(absl::StrCat("tensor \"", name, "\" has shape [",
                                                        absl::StrJoin(view->info->shape, ", "),
                                                        "], config.json asks for [", absl::StrJoin(shape, ", "), "]"));
    } else if (!view->info->dtype.has_value()) {
      status_ = absl::InvalidArgumentError(absl::StrCat("tensor \"", name, "\" has dtype ", view->info->dtype_name,
                                                        ", weights are read as F32, BF16 or F16"));
    }
  }

  const WeightFiles& files_;
  absl::Status status_;
};

class Loader {
 public:
  Loader(const WeightFiles& files, model::DType stored, EncoderWeights* weights)
      : files_(files), stored_(stored), weights_(weights) {}

  void Table(const std::string& name, int64_t rows, int64_t columns, const float** out) {
    Vector({name}, rows * columns, out);
  }
  void Vector(const std::vector<std::string>& names, int64_t count, const float** out) {
    const int64_t total = count * static_cast<int64_t>(names.size());
    float* at = weights_->arena.TakeFloats(total);
    weights_->vector_bytes += model::RoundUp(total * 4, model::kBufferAlignment);
    *out = at;
    for (const std::string& name : names) {
      const TensorView& view = *files_.Find(name);
      ConvertToFloat(*view.info->dtype, view.data, count, at);
      at += count;
    }
  }
  void Matrix(const std::vector<std::string>& names, int64_t columns, int64_t inner, PackedMatrix* out) {
    *out = PackedMatrix{stored_, columns * static_cast<int64_t>(names.size()), inner, nullptr};
    out->data = weights_->arena.Take(out->bytes());
    weights_->packed_bytes += out->bytes();
    int64_t column = 0;
    for (const std::string& name : names) {
      const TensorView& view = *files_.Find(name);
      PackColumns({*view.info->dtype, view.data, columns, inner, inner, 1}, column, out);
      column += columns;
    }
  }

 private:
  const WeightFiles& files_;
  const model::DType stored_;
  EncoderWeights* const weights_;
};

}  // namespace

absl::Status CheckEncoderWeights(const EncoderConfig& config, const WeightFiles& files) {
  EncoderWeights unused;
  Checker checker(files);
  Visit(config, files, &unused, checker);
  return checker.status();
}

absl::StatusOr<EncoderWeights> LoadEncoderWeights(const EncoderConfig& config, const WeightFiles& files,
                                                  model::DType stored) {
  absl::StatusOr<MemoryArena> arena = MemoryArena::Map(model::EncoderWeightBytes(config, stored));
  if (!arena.ok()) return arena.status();
  EncoderWeights weights;
  weights.arena = *std::move(arena);
  Loader loader(files, stored, &weights);
  Visit(config, files, &weights, loader);
  return weights;
}

}  // namespace tandem::worker
