#include "base/model/encoder_config.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/model/json_fields.h"

namespace tandem::model {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr int64_t kMaxFileBytes = 4 << 20;
// No encoder of today comes near these; they keep every later product of sizes far from overflow.
constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxHidden = 1 << 16;
constexpr int64_t kMaxHeads = 1024;
constexpr int64_t kMaxHeadDim = 1024;
constexpr int64_t kMaxIntermediate = 1 << 19;
constexpr int64_t kMaxVocab = 1 << 22;
constexpr int64_t kMaxPositions = 1 << 20;
constexpr int64_t kMaxLabels = 1 << 12;
constexpr size_t kMaxModules = 16;

struct Family {
  const char* architecture;
  EncoderNaming naming;
  bool classifies;
};
constexpr Family kFamilies[] = {
    {"BertModel", EncoderNaming::kBert, false},
    {"BertForMaskedLM", EncoderNaming::kBert, false},
    {"BertForSequenceClassification", EncoderNaming::kBert, true},
    {"RobertaModel", EncoderNaming::kRoberta, false},
    {"RobertaForMaskedLM", EncoderNaming::kRoberta, false},
    {"RobertaForSequenceClassification", EncoderNaming::kRoberta, true},
    {"XLMRobertaModel", EncoderNaming::kRoberta, false},
    {"XLMRobertaForSequenceClassification", EncoderNaming::kRoberta, true},
};

absl::StatusOr<json> ReadJson(const fs::path& path, absl::string_view name) {
  absl::StatusOr<std::string> text = ReadSmallFile(path.string(), kMaxFileBytes);
  if (!text.ok()) return text.status();
  return ParseJsonObject(*text, name);
}

bool Exists(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

EncoderActivation ReadActivation(JsonFields* fields) {
  const std::string name = fields->StringOr("hidden_act", "gelu");
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") return EncoderActivation::kGeluTanh;
  if (name == "relu") return EncoderActivation::kRelu;
  if (name != "gelu") {
    fields->Refuse(absl::StrCat("hidden_act \"", name.substr(0, 60), "\" is not supported (gelu, gelu_new, relu)"));
  }
  return EncoderActivation::kGelu;
}

void ReadSizes(JsonFields* fields, EncoderConfig* config) {
  config->layers = static_cast<int32_t>(fields->Int("num_hidden_layers", 1, kMaxLayers));
  config->hidden = static_cast<int32_t>(fields->Int("hidden_size", 1, kMaxHidden));
  config->heads = static_cast<int32_t>(fields->Int("num_attention_heads", 1, kMaxHeads));
  config->intermediate = static_cast<int32_t>(fields->Int("intermediate_size", 1, kMaxIntermediate));
  config->vocab = static_cast<int32_t>(fields->Int("vocab_size", 1, kMaxVocab));
  config->positions = static_cast<int32_t>(fields->Int("max_position_embeddings", 1, kMaxPositions));
  config->types = static_cast<int32_t>(fields->IntOr("type_vocab_size", 1, 16, 2));
  config->norm_epsilon = fields->NumberOr("layer_norm_eps", 1e-30, 1.0, 1e-12);
  config->activation = ReadActivation(fields);
  if (config->naming == EncoderNaming::kRoberta) {
    // Its positions begin behind the row that stands for padding.
    config->first_position = static_cast<int32_t>(fields->IntOr("pad_token_id", 0, kMaxPositions - 1, 1)) + 1;
  }
  config->max_tokens = config->positions - config->first_position;
  if (config->max_tokens < 1) fields->Refuse("max_position_embeddings leaves no room for a token");
  if (config->heads > 0 && config->hidden % config->heads != 0) {
    fields->Refuse(
        absl::StrCat("hidden_size ", config->hidden, " is not a multiple of num_attention_heads ", config->heads));
  }
  config->head_dim = config->hidden / std::max(1, config->heads);
  if (config->head_dim > kMaxHeadDim) fields->Refuse(absl::StrCat("head size ", config->head_dim, " is above 1024"));
  if (const std::string kind = fields->StringOr("position_embedding_type", "absolute"); kind != "absolute") {
    fields->Refuse(absl::StrCat("position_embedding_type \"", kind.substr(0, 60), "\" is not supported (absolute)"));
  }
  if (fields->BoolOr("is_decoder", false)) fields->Refuse("is_decoder is not supported for an encoder");
  const std::string dtype = fields->StringOr("dtype", fields->StringOr("torch_dtype", ""));
  for (const DType type : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    if (dtype == NameOf(type)) config->dtype = type;
  }
}

// One label is a score, and by sentence-transformers' rule a sigmoid brings it to 0..1 unless the file says otherwise.
void ReadClassifier(JsonFields* fields, EncoderConfig* config) {
  config->head = EncoderHead::kClassifier;
  int64_t labels = fields->IntOr("num_labels", 1, kMaxLabels, 2);
  if (const json* names = fields->Object("id2label")) {
    labels = static_cast<int64_t>(std::min<size_t>(names->size(), kMaxLabels));
  }
  config->labels = static_cast<int32_t>(labels);
  if (labels != 1) {
    fields->Refuse(absl::StrCat("the classifier has ", labels, " labels; a reranker has one"));
    return;
  }
  std::string activation = fields->StringOr("sbert_ce_default_activation_function", "");
  if (const json* sentence = fields->Object("sentence_transformers")) {
    JsonFields inner(*sentence, "sentence_transformers");
    activation = inner.StringOr("activation_fn", activation);
    if (!inner.status().ok()) fields->Refuse(inner.status().message());
  }
  config->sigmoid = activation.empty() || absl::EndsWith(activation, ".Sigmoid");
  if (!config->sigmoid && !absl::EndsWith(activation, ".Identity")) {
    fields->Refuse(absl::StrCat("activation ", activation.substr(0, 80), " is not supported (Sigmoid, Identity)"));
  }
}

absl::Status ReadPooling(const fs::path& path, absl::string_view name, EncoderConfig* config) {
  const absl::StatusOr<json> object = ReadJson(path, name);
  if (!object.ok()) return object.status();
  JsonFields fields(*object, name);
  struct Mode {
    const char* key;
    const char* word;
    std::optional<Pooling> pooling;
  };
  static constexpr Mode kModes[] = {
      {"pooling_mode_cls_token", "cls", Pooling::kFirst},
      {"pooling_mode_mean_tokens", "mean", Pooling::kMean},
      {"pooling_mode_max_tokens", "max", Pooling::kMax},
      {"pooling_mode_lasttoken", "lasttoken", Pooling::kLast},
      {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", std::nullopt},
      {"pooling_mode_weightedmean_tokens", "weightedmean", std::nullopt},
  };
  const std::string word = fields.StringOr("pooling_mode", "");
  std::vector<const Mode*> chosen;
  for (const Mode& mode : kModes) {
    if (word.empty() ? fields.BoolOr(mode.key, false) : word == mode.word) chosen.push_back(&mode);
  }
  if (chosen.size() != 1) {
    fields.Refuse(absl::StrCat("asks for ", chosen.size(),
                               " known kinds of pooling; one of cls, mean, max, lasttoken is "
                               "supported"));
  } else if (!chosen[0]->pooling) {
    fields.Refuse(absl::StrCat(chosen[0]->key, " is not supported (cls, mean, max, lasttoken)"));
  } else {
    config->pooling = *chosen[0]->pooling;
  }
  const int64_t width = fields.IntOr("word_embedding_dimension", 1, kMaxHidden, config->hidden);
  if (width != config->hidden) {
    fields.Refuse(absl::StrCat("word_embedding_dimension is ", width, ", config.json has ", config->hidden));
  }
  return fields.status();
}

// The chain that sentence-transformers writes down: the transformer, its pooling, and perhaps a normalisation.
absl::Status ReadModules(const fs::path& folder, EncoderConfig* config) {
  const absl::StatusOr<std::string> text = ReadSmallFile((folder / "modules.json").string(), kMaxFileBytes);
  if (!text.ok()) return text.status();
  const json list = json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!list.is_array() || list.empty() || list.size() > kMaxModules) {
    return absl::InvalidArgumentError("modules.json is no list of modules");
  }
  std::string chain;
  for (const json& item : list) {
    if (!item.is_object()) return absl::InvalidArgumentError("modules.json: a module is no object");
    JsonFields fields(item, "modules.json");
    const std::string type = fields.StringOr("type", "");
    const std::string path = fields.StringOr("path", "");
    if (!fields.status().ok()) return fields.status();
    const std::string name = type.substr(type.rfind('.') + 1);  // the classes have moved between releases
    absl::StrAppend(&chain, chain.empty() ? "" : " ", name);
    if (chain == "Transformer") {
      if (!path.empty()) {
        return absl::UnimplementedError(absl::StrCat("modules.json: the transformer lies in ", path.substr(0, 60),
                                                     "; it must lie in the folder itself"));
      }
    } else if (chain == "Transformer Pooling") {
      if (path.empty() || path.find('/') != std::string::npos || path[0] == '.') {
        return absl::InvalidArgumentError("modules.json: the pooling has no folder of its own");
      }
      absl::Status pooled = ReadPooling(folder / path / "config.json", absl::StrCat(path, "/config.json"), config);
      if (!pooled.ok()) return pooled;
    } else if (chain == "Transformer Pooling Normalize") {
      config->normalize = true;
    } else {
      return absl::UnimplementedError(absl::StrCat("modules.json: the chain \"", chain.substr(0, 120),
                                                   "\" is not supported (Transformer Pooling [Normalize])"));
    }
  }
  if (!absl::StartsWith(chain, "Transformer Pooling")) {
    return absl::UnimplementedError("modules.json has no pooling");
  }
  return absl::OkStatus();
}

absl::Status ReadSentenceSettings(const fs::path& folder, EncoderConfig* config) {
  if (Exists(folder / "sentence_bert_config.json")) {
    const absl::StatusOr<json> object = ReadJson(folder / "sentence_bert_config.json", "sentence_bert_config.json");
    if (!object.ok()) return object.status();
    JsonFields fields(*object, "sentence_bert_config.json");
    const int64_t longest = fields.IntOr("max_seq_length", 1, kMaxPositions, config->max_tokens);
    config->max_tokens = static_cast<int32_t>(std::min<int64_t>(config->max_tokens, longest));
    if (fields.BoolOr("do_lower_case", false)) fields.Refuse("do_lower_case is not supported: the tokenizer says it");
    if (!fields.status().ok()) return fields.status();
  }
  if (Exists(folder / "config_sentence_transformers.json")) {
    constexpr absl::string_view kName = "config_sentence_transformers.json";
    const absl::StatusOr<json> object = ReadJson(folder / "config_sentence_transformers.json", kName);
    if (!object.ok()) return object.status();
    JsonFields fields(*object, kName);
    const std::string prompt = fields.StringOr("default_prompt_name", "");
    if (!prompt.empty()) {
      fields.Refuse(absl::StrCat("default_prompt_name \"", prompt.substr(0, 60),
                                 "\" is not supported: send the prompt as part of the text, and set it to null"));
    }
    if (!fields.status().ok()) return fields.status();
  }
  return absl::OkStatus();
}

}  // namespace

absl::string_view SupportedEncoders() {
  static const std::string* const names = [] {
    auto* joined = new std::string;
    for (const Family& family : kFamilies) absl::StrAppend(joined, joined->empty() ? "" : ", ", family.architecture);
    return joined;
  }();
  return *names;
}

absl::StatusOr<EncoderConfig> ReadEncoderConfig(const std::string& folder, absl::string_view task) {
  const absl::StatusOr<json> object = ReadJson(fs::path(folder) / "config.json", "config.json");
  if (!object.ok()) return object.status();
  JsonFields fields(*object, "config.json");
  const std::vector<std::string> architectures = fields.Strings("architectures", 16);
  if (!fields.status().ok()) return fields.status();
  const Family* family = nullptr;
  for (const Family& known : kFamilies) {
    if (!architectures.empty() && architectures[0] == known.architecture) family = &known;
  }
  if (family == nullptr) {
    return absl::UnimplementedError(absl::StrCat("config.json: architecture ",
                                                 architectures.empty() ? "(none)" : architectures[0].substr(0, 80),
                                                 " is no encoder that is served; there are: ", SupportedEncoders()));
  }
  if (family->classifies != (task == "rerank")) {
    return absl::InvalidArgumentError(absl::StrCat("config.json: ", family->architecture,
                                                   family->classifies
                                                       ? " scores pairs of texts: its task is rerank, not "
                                                       : " makes vectors: its task is embed, not ",
                                                   task));
  }
  EncoderConfig config;
  config.architecture = family->architecture;
  config.naming = family->naming;
  ReadSizes(&fields, &config);
  if (family->classifies) ReadClassifier(&fields, &config);
  if (!fields.status().ok()) return fields.status();
  if (!family->classifies && Exists(fs::path(folder) / "modules.json")) {
    if (absl::Status read = ReadModules(folder, &config); !read.ok()) return read;
  }
  if (absl::Status read = ReadSentenceSettings(folder, &config); !read.ok()) return read;
  return config;
}

}  // namespace tandem::model
