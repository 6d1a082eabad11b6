#include "base/model/model_config.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "base/model/json_fields.h"

namespace tandem::model {
namespace {

using nlohmann::json;

constexpr int64_t kMaxConfigBytes = 4 << 20;

// No model of today comes near these; they keep every later product of sizes far from overflow.
constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxHidden = 1 << 18;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 1024;
constexpr int64_t kMaxIntermediate = 1 << 21;
constexpr int64_t kMaxVocab = 1 << 22;
constexpr int64_t kMaxPositions = 1 << 26;
constexpr size_t kMaxEosIds = 64;

double YarnScale(double factor, double mscale) { return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0; }

// Reads the scaling out of `rope_scaling` (classic) or `rope_parameters` (newer files); they use the same keys.
void ReadRopeScaling(const json& object, const DecoderConfig& config, RopeConfig* rope, JsonFields* outer) {
  JsonFields fields(object, "rope scaling");
  // The oldest files say "type".
  const std::string type = fields.StringOr("rope_type", fields.StringOr("type", "default"));
  rope->theta = fields.NumberOr("rope_theta", 1.0, 1e12, rope->theta);
  if (fields.NumberOr("partial_rotary_factor", 0.0, 1.0, 1.0) != 1.0) {
    fields.Refuse("partial_rotary_factor below 1 is not supported");
  }
  if (type == "linear") {
    rope->scaling = RopeScaling::kLinear;
  } else if (type == "llama3") {
    rope->scaling = RopeScaling::kLlama3;
  } else if (type == "yarn") {
    rope->scaling = RopeScaling::kYarn;
  } else if (type == "dynamic") {
    // Its frequencies depend on the final length, so a token's keys would change after they were cached.
    fields.Refuse("type \"dynamic\" is not supported: it changes the keys of a sequence while it grows");
  } else if (type != "default") {
    fields.Refuse(absl::StrCat("type \"", type, "\" is not supported (default, linear, llama3, yarn)"));
  }
  if (fields.status().ok() && rope->scaling != RopeScaling::kNone) {
    rope->factor = fields.Number("factor", 1.0, 1e6);
  }
  if (rope->scaling == RopeScaling::kLlama3) {
    rope->low_freq_factor = fields.Number("low_freq_factor", 1e-3, 1e6);
    rope->high_freq_factor = fields.Number("high_freq_factor", 1e-3, 1e6);
    rope->original_max_positions = fields.Number("original_max_position_embeddings", 1, kMaxPositions);
    if (rope->high_freq_factor <= rope->low_freq_factor) {
      fields.Refuse("high_freq_factor must be above low_freq_factor");
    }
  }
  if (rope->scaling == RopeScaling::kYarn) {
    rope->original_max_positions =
        fields.NumberOr("original_max_position_embeddings", 1, kMaxPositions, config.max_positions);
    rope->beta_fast = fields.NumberOr("beta_fast", 1e-3, 1e6, 32.0);
    rope->beta_slow = fields.NumberOr("beta_slow", 1e-3, 1e6, 1.0);
    rope->truncate = fields.BoolOr("truncate", true);
    const double mscale = fields.NumberOr("mscale", 0.0, 1e3, 0.0);
    const double mscale_all = fields.NumberOr("mscale_all_dim", 0.0, 1e3, 0.0);
    const double inferred = mscale > 0.0 && mscale_all > 0.0
                                ? YarnScale(rope->factor, mscale) / YarnScale(rope->factor, mscale_all)
                                : YarnScale(rope->factor, 1.0);
    rope->attention_factor = fields.NumberOr("attention_factor", 1e-3, 1e3, inferred);
  }
  if (!fields.status().ok()) outer->Refuse(fields.status().message());
}

void ReadRope(DecoderConfig* config, JsonFields* fields) {
  config->rope.theta = fields->NumberOr("rope_theta", 1.0, 1e12, 10000.0);
  if (const json* parameters = fields->Object("rope_parameters")) {
    ReadRopeScaling(*parameters, *config, &config->rope, fields);
  } else if (const json* scaling = fields->Object("rope_scaling")) {
    ReadRopeScaling(*scaling, *config, &config->rope, fields);
  }
  if (config->head_dim % 2 != 0) fields->Refuse(absl::StrCat("head_dim ", config->head_dim, " is odd"));
}

void RequireActivation(const char* key, const std::vector<absl::string_view>& supported, JsonFields* fields) {
  const std::string name = fields->StringOr(key, supported[0]);
  if (std::find(supported.begin(), supported.end(), name) == supported.end()) {
    fields->Refuse(absl::StrCat(key, " \"", name, "\" is not supported for this architecture (", supported[0], ")"));
  }
}

// Newer files list every layer's kind; older Qwen2 files give the first layer that has the window.
void ReadWindows(int32_t window, int64_t first_windowed_layer, JsonFields* fields, DecoderConfig* config) {
  config->windows.assign(static_cast<size_t>(config->layers), 0);
  const std::vector<std::string> kinds = fields->Strings("layer_types", kMaxLayers);
  if (!kinds.empty() && kinds.size() != config->windows.size()) {
    fields->Refuse(absl::StrCat("layer_types has ", kinds.size(), " entries for ", config->layers, " layers"));
    return;
  }
  for (size_t layer = 0; layer < config->windows.size(); ++layer) {
    bool windowed = static_cast<int64_t>(layer) >= first_windowed_layer;
    if (!kinds.empty()) {
      windowed = kinds[layer] == "sliding_attention";
      if (!windowed && kinds[layer] != "full_attention") {
        fields->Refuse(absl::StrCat("layer_types names \"", kinds[layer].substr(0, 60), "\", which is not supported"));
        return;
      }
      if (windowed && window == 0) {
        fields->Refuse("layer_types names sliding_attention, but no sliding_window is set");
        return;
      }
    }
    if (windowed) config->windows[layer] = window;
  }
}

// What Llama, Mistral, Qwen2, Qwen3 and Phi-3 have in common. `head_dim`: of a file that does not say; 0: the heads
// share the hidden size.
void ReadLlamaLike(JsonFields* fields, DecoderConfig* config, int32_t head_dim = 0) {
  config->layers = static_cast<int32_t>(fields->Int("num_hidden_layers", 1, kMaxLayers));
  config->hidden = static_cast<int32_t>(fields->Int("hidden_size", 1, kMaxHidden));
  config->heads = static_cast<int32_t>(fields->Int("num_attention_heads", 1, kMaxHeads));
  config->kv_heads = static_cast<int32_t>(fields->IntOr("num_key_value_heads", 1, kMaxHeads, config->heads));
  config->intermediate = static_cast<int32_t>(fields->Int("intermediate_size", 1, kMaxIntermediate));
  config->vocab = static_cast<int32_t>(fields->Int("vocab_size", 1, kMaxVocab));
  config->max_positions = static_cast<int32_t>(fields->Int("max_position_embeddings", 1, kMaxPositions));
  config->norm_epsilon = fields->NumberOr("rms_norm_eps", 1e-30, 1.0, 1e-6);
  config->tied_embeddings = fields->BoolOr("tie_word_embeddings", false);
  RequireActivation("hidden_act", {"silu", "swish"}, fields);
  if (head_dim == 0 && !fields->Has("head_dim") && config->hidden % config->heads != 0) {
    fields->Refuse(absl::StrCat("hidden_size ", config->hidden, " is not a multiple of num_attention_heads ",
                                config->heads, ", and no head_dim is given"));
  }
  if (head_dim == 0) head_dim = std::max(1, config->hidden / config->heads);
  config->head_dim = static_cast<int32_t>(fields->IntOr("head_dim", 1, kMaxHeadDim, head_dim));
  if (config->head_dim > kMaxHeadDim) fields->Refuse(absl::StrCat("head_dim ", config->head_dim, " is above 1024"));
  ReadRope(config, fields);
}

void ReadLlama(const json&, JsonFields* fields, DecoderConfig* config) {
  ReadLlamaLike(fields, config);
  config->qkv_bias = config->attention_out_bias = fields->BoolOr("attention_bias", false);
  config->mlp_bias = fields->BoolOr("mlp_bias", false);
  ReadWindows(0, config->layers, fields, config);
}

void ReadMistral(const json& object, JsonFields* fields, DecoderConfig* config) {
  ReadLlamaLike(fields, config);
  if (!fields->Has("num_key_value_heads")) config->kv_heads = std::min(config->heads, 8);  // The family's own default.
  // Absent means the family's 4096; null means no window.
  const int64_t absent = object.contains("sliding_window") ? 0 : 4096;
  const int64_t window = fields->IntOr("sliding_window", 1, kMaxPositions, absent);
  ReadWindows(static_cast<int32_t>(window), window > 0 ? 0 : config->layers, fields, config);
}

void ReadQwenWindows(JsonFields* fields, DecoderConfig* config) {
  int64_t window = 0;
  int64_t first = config->layers;
  if (fields->BoolOr("use_sliding_window", false)) {
    window = fields->IntOr("sliding_window", 1, kMaxPositions, 0);
    if (window > 0) first = fields->IntOr("max_window_layers", 0, kMaxLayers, 28);
  }
  ReadWindows(static_cast<int32_t>(window), first, fields, config);
}

void ReadQwen2(const json&, JsonFields* fields, DecoderConfig* config) {
  ReadLlamaLike(fields, config);
  config->qkv_bias = true;
  ReadQwenWindows(fields, config);
}

void ReadQwen3(const json&, JsonFields* fields, DecoderConfig* config) {
  ReadLlamaLike(fields, config, /*head_dim=*/128);  // The family's own default, whatever the widths.
  config->qkv_bias = config->attention_out_bias = fields->BoolOr("attention_bias", false);
  config->head_norm = true;
  ReadQwenWindows(fields, config);
}

void ReadPhi3(const json&, JsonFields* fields, DecoderConfig* config) {
  ReadLlamaLike(fields, config);
  config->naming = WeightNaming::kPhi3;
  if (fields->NumberOr("partial_rotary_factor", 0.0, 1.0, 1.0) != 1.0) {
    fields->Refuse("partial_rotary_factor below 1 is not supported");
  }
  const int64_t window = fields->IntOr("sliding_window", 1, kMaxPositions, 0);
  ReadWindows(static_cast<int32_t>(window), window > 0 ? 0 : config->layers, fields, config);
}

void ReadGpt2(const json&, JsonFields* fields, DecoderConfig* config) {
  config->naming = WeightNaming::kGpt2;
  config->norm = Norm::kLayer;
  config->activation = Activation::kGeluTanh;
  config->position = Position::kLearned;
  config->gated_mlp = false;
  config->qkv_bias = config->attention_out_bias = config->mlp_bias = true;
  config->layers = static_cast<int32_t>(fields->Int("n_layer", 1, kMaxLayers));
  config->hidden = static_cast<int32_t>(fields->Int("n_embd", 1, kMaxHidden));
  config->heads = config->kv_heads = static_cast<int32_t>(fields->Int("n_head", 1, kMaxHeads));
  config->intermediate = static_cast<int32_t>(fields->IntOr("n_inner", 1, kMaxIntermediate, 4 * config->hidden));
  config->vocab = static_cast<int32_t>(fields->Int("vocab_size", 1, kMaxVocab));
  config->max_positions = static_cast<int32_t>(fields->Int("n_positions", 1, kMaxPositions));
  config->norm_epsilon = fields->NumberOr("layer_norm_epsilon", 1e-30, 1.0, 1e-5);
  config->tied_embeddings = fields->BoolOr("tie_word_embeddings", true);
  RequireActivation("activation_function", {"gelu_new", "gelu_pytorch_tanh"}, fields);
  if (!fields->BoolOr("scale_attn_weights", true)) fields->Refuse("scale_attn_weights false is not supported");
  if (fields->BoolOr("scale_attn_by_inverse_layer_idx", false)) {
    fields->Refuse("scale_attn_by_inverse_layer_idx is not supported");
  }
  if (fields->BoolOr("add_cross_attention", false)) fields->Refuse("add_cross_attention is not supported");
  if (config->hidden % config->heads != 0) {
    fields->Refuse(absl::StrCat("n_embd ", config->hidden, " is not a multiple of n_head ", config->heads));
  }
  config->head_dim = std::max<int32_t>(1, config->hidden / config->heads);
  if (config->head_dim > kMaxHeadDim)
    fields->Refuse(absl::StrCat("n_embd / n_head is ", config->head_dim, ", above 1024"));
  ReadWindows(0, config->layers, fields, config);
}

struct Family {
  const char* architecture;
  void (*read)(const json&, JsonFields*, DecoderConfig*);
};
constexpr Family kFamilies[] = {
    {"LlamaForCausalLM", ReadLlama}, {"MistralForCausalLM", ReadMistral}, {"Qwen2ForCausalLM", ReadQwen2},
    {"Qwen3ForCausalLM", ReadQwen3}, {"Phi3ForCausalLM", ReadPhi3},       {"GPT2LMHeadModel", ReadGpt2},
};

std::optional<DType> ReadDType(JsonFields* fields) {
  // torch_dtype is the older spelling.
  const std::string name = fields->StringOr("dtype", fields->StringOr("torch_dtype", ""));
  if (name.empty()) return std::nullopt;
  for (DType type : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    if (name == NameOf(type)) return type;
  }
  fields->Refuse(absl::StrCat("dtype \"", name, "\" is not supported (float32, bfloat16, float16)"));
  return std::nullopt;
}

absl::StatusOr<std::vector<int32_t>> ReadEosIds(absl::string_view text, absl::string_view where) {
  const absl::StatusOr<json> object = ParseJsonObject(text, where);
  if (!object.ok()) return object.status();
  JsonFields fields(*object, where);
  std::vector<int32_t> ids = fields.IntOrList("eos_token_id", 0, kMaxVocab, kMaxEosIds);
  if (!fields.status().ok()) return fields.status();
  return ids;
}

}  // namespace

absl::string_view SupportedArchitectures() {
  static const std::string* const names = [] {
    auto* joined = new std::string;
    for (const Family& family : kFamilies) absl::StrAppend(joined, joined->empty() ? "" : ", ", family.architecture);
    return joined;
  }();
  return *names;
}

absl::StatusOr<DecoderConfig> ParseDecoderConfig(absl::string_view config_json,
                                                 std::optional<absl::string_view> generation_config_json) {
  const absl::StatusOr<json> object = ParseJsonObject(config_json, "config.json");
  if (!object.ok()) return object.status();
  JsonFields fields(*object, "config.json");
  DecoderConfig config;

  const std::vector<std::string> architectures = fields.Strings("architectures", 16);
  if (!fields.status().ok()) return fields.status();
  if (architectures.size() != 1) {
    return absl::InvalidArgumentError(absl::StrCat("config.json: architectures names ", architectures.size(),
                                                   " models, expected one of ", SupportedArchitectures()));
  }
  config.architecture = architectures[0];
  const auto* family = std::find_if(std::begin(kFamilies), std::end(kFamilies),
                                    [&](const Family& f) { return config.architecture == f.architecture; });
  if (family == std::end(kFamilies)) {
    return absl::UnimplementedError(absl::StrCat("config.json: architecture \"", config.architecture.substr(0, 100),
                                                 "\" is not supported (", SupportedArchitectures(), ")"));
  }
  if (fields.Has("quantization_config")) {
    return absl::UnimplementedError("config.json: quantization_config is not supported; use unquantized weights");
  }
  family->read(*object, &fields, &config);
  if (config.kv_heads > 0 && config.heads % config.kv_heads != 0) {
    fields.Refuse(absl::StrCat("num_attention_heads ", config.heads, " is not a multiple of num_key_value_heads ",
                               config.kv_heads));
  }
  config.dtype = ReadDType(&fields);
  if (!fields.status().ok()) return fields.status();

  if (generation_config_json.has_value()) {
    absl::StatusOr<std::vector<int32_t>> ids = ReadEosIds(*generation_config_json, "generation_config.json");
    if (!ids.ok()) return ids.status();
    config.eos_ids = *std::move(ids);
  }
  if (config.eos_ids.empty()) {
    absl::StatusOr<std::vector<int32_t>> ids = ReadEosIds(config_json, "config.json");
    if (!ids.ok()) return ids.status();
    config.eos_ids = *std::move(ids);
  }
  // Ids beyond the vocabulary can never be sampled; some published files have them, and they do no harm.
  return config;
}

absl::StatusOr<DecoderConfig> ReadDecoderConfig(const std::string& folder) {
  absl::StatusOr<std::string> config = ReadSmallFile(absl::StrCat(folder, "/config.json"), kMaxConfigBytes);
  if (!config.ok()) return config.status();
  const std::string generation_path = absl::StrCat(folder, "/generation_config.json");
  if (!std::filesystem::exists(generation_path)) return ParseDecoderConfig(*config, std::nullopt);
  absl::StatusOr<std::string> generation = ReadSmallFile(generation_path, kMaxConfigBytes);
  if (!generation.ok()) return generation.status();
  return ParseDecoderConfig(*config, absl::string_view(*generation));
}

}  // namespace tandem::model
