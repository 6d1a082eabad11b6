#include "simulate/served_model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/model/cuda_memory.h"
#include "base/model/model_config.h"

namespace tandem::simulate {
namespace {

constexpr int kDegrees[] = {1, 2, 4, 8};

struct Shape {
  const char* name;
  int hidden, layers, heads, kv_heads, intermediate, vocabulary, positions;
};
// As their config.json has them.
constexpr Shape kShapes[] = {
    {"llama-3.1-8b", 4096, 32, 32, 8, 14336, 128256, 131072},
    {"llama-3.1-70b", 8192, 80, 64, 8, 28672, 128256, 131072},
    {"llama-2-7b", 4096, 32, 32, 32, 11008, 32000, 4096},
    {"mistral-7b", 4096, 32, 32, 8, 14336, 32768, 32768},
};

absl::StatusOr<model::DecoderConfig> ConfigOf(const std::string& name) {
  for (const Shape& shape : kShapes) {
    if (name != shape.name) continue;
    return model::ParseDecoderConfig(
        absl::StrCat(R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","torch_dtype":"bfloat16",)",
                     R"("hidden_size":)", shape.hidden, R"(,"num_hidden_layers":)", shape.layers,
                     R"(,"num_attention_heads":)", shape.heads, R"(,"num_key_value_heads":)", shape.kv_heads,
                     R"(,"intermediate_size":)", shape.intermediate, R"(,"vocab_size":)", shape.vocabulary,
                     R"(,"max_position_embeddings":)", shape.positions,
                     R"(,"hidden_act":"silu","rms_norm_eps":1e-5,"tie_word_embeddings":false})"),
        std::nullopt);
  }
  auto config = model::ReadDecoderConfig(name);
  if (config.ok()) return config;
  return absl::Status(config.status().code(), absl::StrCat("--model ", name, " is none of ", KnownModels(),
                                                           ", and as a folder: ", config.status().message()));
}

}  // namespace

absl::string_view KnownModels() { return "llama-3.1-8b, llama-3.1-70b, llama-2-7b, mistral-7b"; }

absl::StatusOr<ServedModel> DescribeModel(const ModelChoice& choice, int64_t longest) {
  const auto config = ConfigOf(choice.name);
  if (!config.ok()) return config.status();
  if (choice.max_model_len > config->max_positions) {
    return absl::InvalidArgumentError(absl::StrCat("--max-model-len ", choice.max_model_len, ": ", choice.name, " has ",
                                                   config->max_positions, " positions"));
  }
  ServedModel model;
  core::ModelSpec& spec = model.spec;
  spec.name = choice.name;
  spec.tensor_parallel = choice.tensor_parallel;
  spec.max_model_len = choice.max_model_len > 0
                           ? choice.max_model_len
                           : static_cast<int32_t>(std::min<int64_t>(config->max_positions, longest + 1));
  spec.max_sequences = choice.max_sequences;
  spec.max_batch_tokens = std::max(choice.max_batch_tokens, choice.max_sequences);
  spec.hidden = config->hidden;
  spec.layers = config->layers;
  for (const int degree : kDegrees) {
    core::ShardCost cost;
    cost.tensor_parallel = degree;
    model::CudaMemoryQuery query{.ranks = degree,
                                 .max_batch_tokens = spec.max_batch_tokens,
                                 .max_sequences = spec.max_sequences,
                                 .max_model_len = spec.max_model_len};
    const auto first = model::CudaMemoryOfRank(*config, query);
    query.first_rank = false;
    const auto others = model::CudaMemoryOfRank(*config, query);
    if (!first.ok() || !others.ok()) {
      cost.impossible = std::string(first.status().message());
      spec.costs.push_back(std::move(cost));
      continue;
    }
    cost.static_bytes = {first->Static()};
    cost.static_others = {others->Static()};
    cost.kv_bytes_per_token = {first->kv_bytes_per_token};
    spec.costs.push_back(std::move(cost));
    if (degree > 1) continue;
    const int64_t element = model::BytesOf(query.dtype);
    const int64_t table = int64_t{config->vocab} * config->hidden;
    spec.parameters = first->weight_bytes / element;
    model.work = {.layers = config->layers,
                  .hidden = config->hidden,
                  .element_bytes = static_cast<int>(element),
                  .parameters = spec.parameters - (config->tied_embeddings ? 0 : table),
                  .head_parameters = table,
                  .weight_bytes = first->weight_bytes,
                  .kv_bytes_per_token = first->kv_bytes_per_token};
  }
  if (model.work.layers == 0) {
    return absl::InvalidArgumentError(absl::StrCat(choice.name, ": ", spec.costs.front().impossible));
  }
  return model;
}

}  // namespace tandem::simulate
