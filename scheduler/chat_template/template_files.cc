#include "scheduler/chat_template/template_files.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tandem::chat {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr uintmax_t kLargestTemplate = 1 << 20;
constexpr uintmax_t kLargestConfig = 64 << 20;  // tokenizer_config.json lists every added token

// What transformers had built in for GPT-2's tokenizer.
constexpr absl::string_view kGpt2Template =
    "{% for message in messages %}{{ message.content }}{{ eos_token }}{% endfor %}";

constexpr const char* kSpecialTokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                          "pad_token", "cls_token", "mask_token"};

absl::StatusOr<std::string> ReadFile(const fs::path& path, uintmax_t limit) {
  std::error_code error;
  const uintmax_t size = fs::file_size(path, error);
  if (error) return absl::NotFoundError(absl::StrCat(path.string(), ": ", error.message()));
  if (size > limit) {
    return absl::InvalidArgumentError(absl::StrCat(path.string(), ": ", size, " bytes; the limit is ", limit));
  }
  std::string text(size, '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(text.data(), static_cast<std::streamsize>(size))) {
    return absl::UnavailableError(absl::StrCat(path.string(), ": cannot be read"));
  }
  return text;
}

// The file as an object; an empty one where it is not there.
absl::StatusOr<Json> ReadObject(const fs::path& path) {
  if (!fs::exists(path)) return Json::object();
  const auto text = ReadFile(path, kLargestConfig);
  if (!text.ok()) return text.status();
  Json json = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError(absl::StrCat(path.string(), ": is no JSON object"));
  return json;
}

// A string, or a list with "default" and "tool_use". False: neither.
bool TakeTemplates(const Json& json, TemplateFiles* files) {
  if (json.is_string()) {
    files->source = json.get<std::string>();
    return true;
  }
  if (!json.is_array()) return false;
  for (const Json& entry : json) {
    const bool named = entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
                       entry.contains("template") && entry["template"].is_string();
    if (!named) return false;
    if (entry["name"] == "default") files->source = entry["template"].get<std::string>();
    if (entry["name"] == "tool_use") files->tool_use = entry["template"].get<std::string>();
  }
  return files->source.has_value();
}

// A token is a string or {"content": ...}.
void TakeSpecialTokens(const Json& json, TemplateFiles* files) {
  for (const char* name : kSpecialTokens) {
    const auto found = json.find(name);
    if (found == json.end()) continue;
    const Json* value = &*found;
    if (value->is_object() && value->contains("content")) value = &(*value)["content"];
    if (value->is_string()) files->special_tokens.emplace(name, value->get<std::string>());
  }
}

absl::Status TakeFromJson(const fs::path& path, const Json& json, TemplateFiles* files) {
  const auto found = json.find("chat_template");
  if (found == json.end() || found->is_null()) return absl::OkStatus();
  files->origin = path.string();
  if (TakeTemplates(*found, files)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path.string(), ": chat_template is neither a string nor a list with one named default"));
}

absl::Status TakeTemplate(const fs::path& folder, const std::string& override_path, const Json& tokenizer_config,
                          TemplateFiles* files) {
  const fs::path jinja = override_path.empty() ? folder / "chat_template.jinja" : fs::path(override_path);
  if (!override_path.empty() || fs::exists(jinja)) {
    auto text = ReadFile(jinja, kLargestTemplate);
    if (!text.ok()) return text.status();
    files->source = *std::move(text);
    files->origin = jinja.string();
    const fs::path tools = folder / "additional_chat_templates" / "tool_use.jinja";
    if (!override_path.empty() || !fs::exists(tools)) return absl::OkStatus();
    text = ReadFile(tools, kLargestTemplate);
    if (!text.ok()) return text.status();
    files->tool_use = *std::move(text);
    return absl::OkStatus();
  }
  const auto json = ReadObject(folder / "chat_template.json");
  if (!json.ok()) return json.status();
  absl::Status status = TakeFromJson(folder / "chat_template.json", *json, files);
  if (!status.ok() || files->source) return status;
  status = TakeFromJson(folder / "tokenizer_config.json", tokenizer_config, files);
  if (!status.ok() || files->source) return status;
  const auto config = ReadObject(folder / "config.json");
  if (!config.ok()) return config.status();
  if (config->value("model_type", Json()) == "gpt2") {
    files->source = std::string(kGpt2Template);
    files->origin = "the built-in template of model type gpt2";
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TemplateFiles> ReadTemplateFiles(const std::string& folder, const std::string& override_path) {
  TemplateFiles files;
  const auto config = ReadObject(fs::path(folder) / "tokenizer_config.json");
  if (!config.ok()) return config.status();
  const auto map = ReadObject(fs::path(folder) / "special_tokens_map.json");
  if (!map.ok()) return map.status();
  TakeSpecialTokens(*config, &files);
  TakeSpecialTokens(*map, &files);
  if (absl::Status status = TakeTemplate(folder, override_path, *config, &files); !status.ok()) return status;
  return files;
}

}  // namespace tandem::chat
