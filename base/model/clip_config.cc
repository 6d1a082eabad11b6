#include "base/model/clip_config.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/model/image_limits.h"
#include "base/model/json_fields.h"

namespace tandem::model {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr int64_t kMaxFileBytes = 4 << 20;
// No CLIP of today comes near these; they keep every later product of sizes far from overflow.
constexpr int64_t kMaxLayers = 256;
constexpr int64_t kMaxHidden = 1 << 14;
constexpr int64_t kMaxHeads = 1024;
constexpr int64_t kMaxHeadDim = 1024;
constexpr int64_t kMaxIntermediate = 1 << 17;
constexpr int64_t kMaxVocab = 1 << 22;
constexpr int64_t kMaxPositions = 1 << 16;
constexpr int64_t kMaxSide = 2048;
constexpr int64_t kMaxImageTokens = 1 << 14;
// Before this was corrected in transformers, every file said so, whatever its end token was.
constexpr int64_t kWrongEndToken = 2;

absl::StatusOr<json> ReadConfig(const std::string& folder) {
  absl::StatusOr<std::string> text = ReadSmallFile((fs::path(folder) / "config.json").string(), kMaxFileBytes);
  if (!text.ok()) return text.status();
  return ParseJsonObject(*text, "config.json");
}

bool NamesClip(const json& config) {
  const auto it = config.find("architectures");
  return it != config.end() && it->is_array() && !it->empty() && (*it)[0] == "CLIPModel";
}

void ReadTower(JsonFields* fields, ClipTower* tower) {
  tower->layers = static_cast<int32_t>(fields->IntOr("num_hidden_layers", 1, kMaxLayers, 12));
  tower->hidden = static_cast<int32_t>(fields->IntOr("hidden_size", 1, kMaxHidden, tower->hidden));
  tower->heads = static_cast<int32_t>(fields->IntOr("num_attention_heads", 1, kMaxHeads, tower->heads));
  tower->intermediate =
      static_cast<int32_t>(fields->IntOr("intermediate_size", 1, kMaxIntermediate, tower->intermediate));
  tower->norm_epsilon = fields->NumberOr("layer_norm_eps", 1e-30, 1.0, 1e-5);
  const std::string activation = fields->StringOr("hidden_act", "quick_gelu");
  if (activation == "gelu") {
    tower->activation = ClipActivation::kGelu;
  } else if (activation == "gelu_new" || activation == "gelu_pytorch_tanh") {
    tower->activation = ClipActivation::kGeluTanh;
  } else if (activation != "quick_gelu") {
    fields->Refuse(
        absl::StrCat("hidden_act \"", activation.substr(0, 60), "\" is not supported (quick_gelu, gelu, gelu_new)"));
  }
  if (tower->hidden % tower->heads != 0) {
    fields->Refuse(
        absl::StrCat("hidden_size ", tower->hidden, " is not a multiple of num_attention_heads ", tower->heads));
  }
  tower->head_dim = tower->hidden / tower->heads;
  if (tower->head_dim > kMaxHeadDim) fields->Refuse(absl::StrCat("head size ", tower->head_dim, " is above 1024"));
}

// What files leave out is what CLIPTextConfig and CLIPVisionConfig have of their own.
absl::Status ReadText(const json& object, ClipConfig* config) {
  JsonFields fields(object, "config.json: text_config");
  config->text.hidden = 512;
  config->text.heads = 8;
  config->text.intermediate = 2048;
  ReadTower(&fields, &config->text);
  config->vocab = static_cast<int32_t>(fields.IntOr("vocab_size", 1, kMaxVocab, 49408));
  config->text.positions = static_cast<int32_t>(fields.IntOr("max_position_embeddings", 1, kMaxPositions, 77));
  const int64_t end = fields.IntOr("eos_token_id", 0, kMaxVocab, 49407);
  if (end != kWrongEndToken) config->end_token = static_cast<int32_t>(end);
  return fields.status();
}

absl::Status ReadImage(const json& object, ClipConfig* config) {
  JsonFields fields(object, "config.json: vision_config");
  config->image.hidden = 768;
  config->image.heads = 12;
  config->image.intermediate = 3072;
  ReadTower(&fields, &config->image);
  config->side = static_cast<int32_t>(fields.IntOr("image_size", 1, kMaxSide, 224));
  config->patch = static_cast<int32_t>(fields.IntOr("patch_size", 1, kMaxSide, 32));
  if (fields.IntOr("num_channels", 1, 64, 3) != 3) fields.Refuse("num_channels is not 3");
  if (!fields.status().ok()) return fields.status();
  if (config->side % config->patch != 0) {
    fields.Refuse(absl::StrCat("image_size ", config->side, " is not a multiple of patch_size ", config->patch));
  } else if (int64_t{config->grid()} * config->grid() >= kMaxImageTokens) {
    fields.Refuse(absl::StrCat("a picture has more than ", kMaxImageTokens, " patches"));
  } else {
    config->image.positions = config->image_tokens();
  }
  return fields.status();
}

// sentence-transformers' chain. Without the file a vector has length 1, as CLIPModel's text_embeds and image_embeds.
absl::Status ReadModules(const std::string& folder, ClipConfig* config) {
  const fs::path path = fs::path(folder) / "modules.json";
  std::error_code error;
  if (!fs::exists(path, error)) return absl::OkStatus();
  const absl::StatusOr<std::string> text = ReadSmallFile(path.string(), kMaxFileBytes);
  if (!text.ok()) return text.status();
  const json list = json::parse(*text, nullptr, /*allow_exceptions=*/false);
  std::string chain;
  for (size_t i = 0; list.is_array() && i < list.size() && i < 4; ++i) {
    if (!list[i].is_object()) return absl::InvalidArgumentError("modules.json: a module is no object");
    JsonFields fields(list[i], "modules.json");
    const std::string type = fields.StringOr("type", "");
    if (!fields.status().ok()) return fields.status();
    absl::StrAppend(&chain, chain.empty() ? "" : " ", type.substr(type.rfind('.') + 1));
  }
  config->normalize = chain == "CLIPModel Normalize";
  if (config->normalize || chain == "CLIPModel") return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat("modules.json: the chain \"", chain.substr(0, 120),
                                               "\" is not supported for a CLIP model (CLIPModel [Normalize])"));
}

}  // namespace

int64_t ClipConfig::EndOf(absl::Span<const int32_t> tokens) const {
  const auto end =
      end_token ? std::find(tokens.begin(), tokens.end(), *end_token) : std::max_element(tokens.begin(), tokens.end());
  // Ids that come without an end token: the reference takes the first one's state, and so do we.
  return end == tokens.end() ? 0 : end - tokens.begin();
}

bool IsClipFolder(const std::string& folder) {
  const absl::StatusOr<json> config = ReadConfig(folder);
  return config.ok() && NamesClip(*config);
}

absl::StatusOr<ClipConfig> ReadClipConfig(const std::string& folder, absl::string_view task) {
  const absl::StatusOr<json> object = ReadConfig(folder);
  if (!object.ok()) return object.status();
  if (!NamesClip(*object)) return absl::InvalidArgumentError("config.json: the architecture is not CLIPModel");
  if (task != "embed") {
    return absl::InvalidArgumentError(
        absl::StrCat("config.json: CLIPModel makes vectors: its task is embed, not ", task));
  }
  JsonFields fields(*object, "config.json");
  ClipConfig config;
  config.vector = static_cast<int32_t>(fields.IntOr("projection_dim", 1, kMaxHidden, 512));
  const std::string dtype = fields.StringOr("dtype", fields.StringOr("torch_dtype", ""));
  for (const DType type : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    if (dtype == NameOf(type)) config.dtype = type;
  }
  const json nothing = json::object();
  const json* text = fields.Object("text_config");
  const json* image = fields.Object("vision_config");
  if (!fields.status().ok()) return fields.status();
  if (absl::Status read = ReadText(text != nullptr ? *text : nothing, &config); !read.ok()) return read;
  if (absl::Status read = ReadImage(image != nullptr ? *image : nothing, &config); !read.ok()) return read;
  if (absl::Status read = ReadModules(folder, &config); !read.ok()) return read;
  absl::StatusOr<ImagePreparation> preparation = ReadImagePreparation(folder, config.side);
  if (!preparation.ok()) return preparation.status();
  config.preparation = *std::move(preparation);
  return config;
}

}  // namespace tandem::model
