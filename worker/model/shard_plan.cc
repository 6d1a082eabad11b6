#include "worker/model/shard_plan.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tandem::worker {
namespace {

using model::DecoderConfig;
using model::TensorView;
using model::WeightFiles;

struct Range {
  int64_t begin = 0;
  int64_t count = 0;
};

// Looks tensors up, checks them, and cuts slices; remembers the first thing that is wrong.
class Cutter {
 public:
  // Conv1D weights of GPT-2 lie input-major; all others output-major.
  Cutter(const WeightFiles& files, bool input_major) : files_(files), input_major_(input_major) {}

  const absl::Status& status() const { return status_; }

  // Appends the part `outputs` x `inputs` of the tensor, whose whole is total_outputs x total_inputs.
  void AddMatrix(const std::string& name, int64_t total_outputs, int64_t total_inputs, Range outputs, Range inputs,
                 MatrixSlice* slice, bool is_linear = true) {
    const bool transposed = is_linear && input_major_;
    const TensorView* view =
        transposed ? Checked(name, {total_inputs, total_outputs}) : Checked(name, {total_outputs, total_inputs});
    slice->columns += outputs.count;
    slice->inner = inputs.count;
    if (view == nullptr) return;
    MatrixSource source;
    source.dtype = *view->info->dtype;
    source.columns = outputs.count;
    source.inner = inputs.count;
    source.column_stride = transposed ? 1 : total_inputs;
    source.inner_stride = transposed ? total_outputs : 1;
    source.data = view->data + (outputs.begin * source.column_stride + inputs.begin * source.inner_stride) *
                                   model::BytesOf(source.dtype);
    slice->parts.push_back(source);
  }

  void AddVector(const std::string& name, int64_t total, Range part, VectorSlice* slice) {
    AddFlat(Checked(name, {total}), part, slice);
  }

  // All of a two-dimensional tensor, as one vector.
  void AddTable(const std::string& name, int64_t rows, int64_t columns, VectorSlice* slice) {
    AddFlat(Checked(name, {rows, columns}), {0, rows * columns}, slice);
  }

 private:
  static void AddFlat(const TensorView* view, Range part, VectorSlice* slice) {
    slice->count += part.count;
    if (view == nullptr) return;
    const model::DType dtype = *view->info->dtype;
    slice->parts.push_back({dtype, view->data + part.begin * model::BytesOf(dtype), part.count});
  }

  const TensorView* Checked(const std::string& name, const std::vector<int64_t>& shape) {
    const TensorView* view = files_.Find(name);
    if (view == nullptr) {
      Refuse(absl::StrCat("the weights have no tensor \"", name, "\""));
      return nullptr;
    }
    if (view->info->shape != shape) {
      Refuse(absl::StrCat("tensor \"", name, "\" has shape [", absl::StrJoin(view->info->shape, ", "),
                          "], config.json asks for [", absl::StrJoin(shape, ", "), "]"));
      return nullptr;
    }
    if (!view->info->dtype.has_value()) {
      Refuse(absl::StrCat("tensor \"", name, "\" has dtype ", view->info->dtype_name,
                          ", weights are read as F32, BF16 or F16"));
      return nullptr;
    }
    return view;
  }

  void Refuse(absl::string_view message) {
    if (status_.ok()) status_ = absl::InvalidArgumentError(message);
  }

  const WeightFiles& files_;
  const bool input_major_;
  absl::Status status_;
};

// Everything about one rank that the two naming schemes share.
struct Cut {
  Cut(const DecoderConfig& config, const model::RankShape& shape, int32_t rank) : config(config), rank(rank) {
    const int64_t d = config.head_dim;
    query = {rank * shape.heads * d, shape.heads * d};
    // Where ranks outnumber the KV heads, neighbours hold the same one.
    const int64_t first_kv_head = int64_t{rank} * config.kv_heads / shape.size;
    kv = {first_kv_head * d, shape.kv_heads * d};
    mlp = {int64_t{rank} * shape.intermediate, shape.intermediate};
    all_hidden = {0, config.hidden};
    const int64_t first_token = std::min<int64_t>(config.vocab, int64_t{rank} * shape.vocab);
    vocab = {first_token, std::min<int64_t>(config.vocab - first_token, shape.vocab)};
  }

  int64_t query_width() const { return int64_t{config.heads} * config.head_dim; }
  int64_t kv_width() const { return int64_t{config.kv_heads} * config.head_dim; }
  // The bias behind a product that is cut by inputs would be added once per rank.
  bool adds_output_bias() const { return rank == 0; }

  const DecoderConfig& config;
  const int32_t rank;
  Range query, kv, mlp, all_hidden, vocab;
};

void CutNorm(const std::string& name, const Cut& cut, Cutter* cutter, NormSlice* norm) {
  cutter->AddVector(name + ".weight", cut.config.hidden, cut.all_hidden, &norm->weight);
  if (cut.config.norm == model::Norm::kLayer) {
    cutter->AddVector(name + ".bias", cut.config.hidden, cut.all_hidden, &norm->bias);
  }
}

// A product cut by inputs.
void CutOutput(const std::string& name, int64_t width, Range inputs, bool has_bias, const Cut& cut, Cutter* cutter,
               LinearSlice* linear) {
  cutter->AddMatrix(name + ".weight", cut.config.hidden, width, cut.all_hidden, inputs, &linear->weight);
  if (has_bias && cut.adds_output_bias()) {
    cutter->AddVector(name + ".bias", cut.config.hidden, cut.all_hidden, &linear->bias);
  }
}

// Products of one input, of which a rank holds a part each. Families that fuse them have all in the first one's stead,
// behind each other in one tensor.
struct Product {
  const char* name;
  int64_t width;
  Range part;
};

void CutInputs(const std::string& prefix, const std::vector<Product>& products, const char* fused, bool has_bias,
               const Cut& cut, Cutter* cutter, LinearSlice* linear) {
  int64_t whole = 0;
  for (const Product& product : products) whole += product.width;
  int64_t first = 0;
  for (const Product& product : products) {
    const std::string name = prefix + (fused != nullptr ? fused : product.name);
    const int64_t width = fused != nullptr ? whole : product.width;
    const Range part{first + product.part.begin, product.part.count};
    cutter->AddMatrix(name + ".weight", width, cut.config.hidden, part, cut.all_hidden, &linear->weight);
    if (has_bias) cutter->AddVector(name + ".bias", width, part, &linear->bias);
    if (fused != nullptr) first += product.width;
  }
}

LayerSlices CutLlamaLayer(const std::string& prefix, const Cut& cut, Cutter* cutter) {
  const DecoderConfig& config = cut.config;
  const bool fused = config.naming == model::WeightNaming::kPhi3;
  LayerSlices layer;
  CutNorm(prefix + "input_layernorm", cut, cutter, &layer.attention_norm);
  CutInputs(prefix + "self_attn.",
            {{"q_proj", cut.query_width(), cut.query},
             {"k_proj", cut.kv_width(), cut.kv},
             {"v_proj", cut.kv_width(), cut.kv}},
            fused ? "qkv_proj" : nullptr, config.qkv_bias, cut, cutter, &layer.qkv);
  if (config.head_norm) {
    const Range head{0, config.head_dim};
    cutter->AddVector(prefix + "self_attn.q_norm.weight", config.head_dim, head, &layer.query_norm);
    cutter->AddVector(prefix + "self_attn.k_norm.weight", config.head_dim, head, &layer.key_norm);
  }
  CutOutput(prefix + "self_attn.o_proj", cut.query_width(), cut.query, config.attention_out_bias, cut, cutter,
            &layer.attention_out);
  CutNorm(prefix + "post_attention_layernorm", cut, cutter, &layer.mlp_norm);
  CutInputs(prefix + "mlp.", {{"gate_proj", config.intermediate, cut.mlp}, {"up_proj", config.intermediate, cut.mlp}},
            fused ? "gate_up_proj" : nullptr, config.mlp_bias, cut, cutter, &layer.mlp_in);
  CutOutput(prefix + "mlp.down_proj", config.intermediate, cut.mlp, config.mlp_bias, cut, cutter, &layer.mlp_out);
  return layer;
}

LayerSlices CutGpt2Layer(const std::string& prefix, const Cut& cut, Cutter* cutter) {
  const DecoderConfig& config = cut.config;
  LayerSlices layer;
  CutNorm(prefix + "ln_1", cut, cutter, &layer.attention_norm);
  // Queries, keys and values lie side by side in one tensor: a rank cuts its heads out of each third.
  const int64_t width = cut.query_width();
  for (int64_t third = 0; third < 3; ++third) {
    const Range part{third * width + cut.query.begin, cut.query.count};
    cutter->AddMatrix(prefix + "attn.c_attn.weight", 3 * width, config.hidden, part, cut.all_hidden, &layer.qkv.weight);
    cutter->AddVector(prefix + "attn.c_attn.bias", 3 * width, part, &layer.qkv.bias);
  }
  CutOutput(prefix + "attn.c_proj", width, cut.query, true, cut, cutter, &layer.attention_out);
  CutNorm(prefix + "ln_2", cut, cutter, &layer.mlp_norm);
  cutter->AddMatrix(prefix + "mlp.c_fc.weight", config.intermediate, config.hidden, cut.mlp, cut.all_hidden,
                    &layer.mlp_in.weight);
  cutter->AddVector(prefix + "mlp.c_fc.bias", config.intermediate, cut.mlp, &layer.mlp_in.bias);
  CutOutput(prefix + "mlp.c_proj", config.intermediate, cut.mlp, true, cut, cutter, &layer.mlp_out);
  return layer;
}

struct Names {
  std::string embedding, positions, layer_prefix, final_norm;
};

Names NamesOf(const DecoderConfig& config, const WeightFiles& files) {
  if (config.naming != model::WeightNaming::kGpt2) {
    return {"model.embed_tokens.weight", "", "model.layers.", "model.norm"};
  }
  // Checkpoints saved from the bare model lack the first component.
  const std::string root = files.Find("wte.weight") != nullptr ? "" : "transformer.";
  return {root + "wte.weight", root + "wpe.weight", root + "h.", root + "ln_f"};
}

}  // namespace

absl::StatusOr<ShardPlan> PlanShard(const DecoderConfig& config, const WeightFiles& files, int32_t rank,
                                    int32_t ranks) {
  const absl::StatusOr<model::RankShape> shape = model::ShapeOfRank(config, ranks);
  if (!shape.ok()) return shape.status();
  if (rank < 0 || rank >= ranks) return absl::InvalidArgumentError(absl::StrCat("rank ", rank, " of ", ranks));

  ShardPlan plan;
  plan.shape = *shape;
  plan.rank = rank;
  const Cut cut(config, *shape, rank);
  const bool gpt2 = config.naming == model::WeightNaming::kGpt2;
  Cutter cutter(files, /*input_major=*/gpt2);
  const Names names = NamesOf(config, files);

  cutter.AddMatrix(names.embedding, config.vocab, config.hidden, cut.vocab, cut.all_hidden, &plan.embedding,
                   /*is_linear=*/false);
  plan.embedding.columns = shape->vocab;
  if (config.position == model::Position::kLearned) {
    cutter.AddTable(names.positions, config.max_positions, config.hidden, &plan.positions);
  }
  for (int32_t i = 0; i < config.layers; ++i) {
    const std::string prefix = absl::StrCat(names.layer_prefix, i, ".");
    plan.layers.push_back(gpt2 ? CutGpt2Layer(prefix, cut, &cutter) : CutLlamaLayer(prefix, cut, &cutter));
    if (!cutter.status().ok()) return cutter.status();
  }
  CutNorm(names.final_norm, cut, &cutter, &plan.final_norm);
  if (!config.tied_embeddings) {
    cutter.AddMatrix("lm_head.weight", config.vocab, config.hidden, cut.vocab, cut.all_hidden, &plan.output,
                     /*is_linear=*/false);
    plan.output.columns = shape->vocab;
  }
  if (!cutter.status().ok()) return cutter.status();
  return plan;
}

}  // namespace tandem::worker
