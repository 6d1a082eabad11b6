#include "scheduler/model_catalog.h"

#include <glog/logging.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/model/cuda_memory.h"
#include "base/model/model_config.h"
#include "base/model/model_memory.h"
#include "base/model/safetensors.h"
#include "scheduler/encoder_catalog.h"

namespace tandem::scheduler {
namespace {

// What `auto` chooses from. Any other up to kMostRanks is counted where it is asked for.
constexpr int kDegrees[] = {1, 2, 4, 8, 16};
constexpr int kMostRanks = 16;  // as workers have it: worker/comm/group_identity.h
// What a group takes at once where the configuration says nothing.
constexpr int32_t kDefaultSequences = 64;
constexpr int32_t kBatchTokens = 512;
constexpr size_t kLargestGenerationConfig = 1 << 20;

absl::Status Annotate(const absl::Status& status, const std::string& model) {
  return absl::Status(status.code(), absl::StrCat("model ", model, ": ", status.message()));
}

// A sampling default that is out of range is left out: the file is the model's, and the request can still say its own.
template <typename T>
std::optional<T> NumberIn(const nlohmann::json& json, const char* key, double low, double high) {
  const auto it = json.find(key);
  if (it == json.end() || !it->is_number()) return std::nullopt;
  const double value = it->get<double>();
  if (!(value >= low && value <= high)) return std::nullopt;
  return static_cast<T>(value);
}

void ReadSamplingDefaults(const std::string& folder, ModelLimits* limits) {
  std::ifstream file(folder + "/generation_config.json", std::ios::binary);
  if (!file) return;
  std::string text(kLargestGenerationConfig, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return;  // ReadDecoderConfig has said what is wrong with it
  limits->temperature = NumberIn<float>(json, "temperature", 0, 2);
  limits->top_p = NumberIn<float>(json, "top_p", 1e-6, 1);
  limits->top_k = NumberIn<int32_t>(json, "top_k", 0, 1 << 24);
  limits->repetition_penalty = NumberIn<float>(json, "repetition_penalty", 1e-6, 10);
}

// The type of most bytes is that of the first matrix; norms and biases are sometimes kept wider.
absl::StatusOr<model::DType> FileDType(const model::DecoderConfig& config, const std::string& folder) {
  auto files = model::WeightFiles::Open(folder);
  if (!files.ok()) return files.status();
  for (const auto& [name, tensor] : files->tensors()) {
    if (tensor.info->shape.size() == 2 && tensor.info->dtype) return *tensor.info->dtype;
  }
  return config.dtype.value_or(model::DType::kFloat32);
}

// GPUs compute in 16 bits, unless they are asked for more by name. REQUIRES: the model has this degree.
core::KindCost CostOnCuda(const model::DecoderConfig& config, const core::ModelSpec& spec, int degree) {
  model::CudaMemoryQuery query{.ranks = degree,
                               .max_batch_tokens = spec.max_batch_tokens,
                               .max_sequences = spec.max_sequences,
                               .max_model_len = spec.max_model_len};
  if (spec.dtype == model::NameOf(model::DType::kFloat32)) query.dtype = model::DType::kFloat32;
  const auto first = model::CudaMemoryOfRank(config, query);
  query.first_rank = false;
  const auto others = model::CudaMemoryOfRank(config, query);
  CHECK(first.ok() && others.ok());
  return {"cuda", {first->Static()}, {others->Static()}, {first->kv_bytes_per_token}};
}

std::vector<int> Degrees(int asked) {
  std::vector<int> degrees(std::begin(kDegrees), std::end(kDegrees));
  if (asked != 0 && std::find(degrees.begin(), degrees.end(), asked) == degrees.end()) degrees.push_back(asked);
  return degrees;
}

absl::StatusOr<std::vector<core::ShardCost>> Costs(const model::DecoderConfig& config, core::ModelSpec& spec,
                                                   model::DType file_dtype) {
  // GPUs compute in float16; a CPU that is given such a model says so when it loads.
  const bool half = spec.dtype == model::NameOf(model::DType::kFloat16);
  const absl::StatusOr<model::DType> stored =
      half ? model::DType::kFloat16 : model::ChooseStoredDType(spec.dtype, file_dtype);
  if (!stored.ok()) return stored.status();
  std::vector<core::ShardCost> costs;
  for (int degree : Degrees(spec.tensor_parallel)) {
    core::ShardCost& cost = costs.emplace_back();
    cost.tensor_parallel = degree;
    if (degree > kMostRanks) {
      cost.impossible = absl::StrCat("a group has ", kMostRanks, " ranks at most");
      continue;
    }
    model::MemoryQuery query{.ranks = degree,
                             .stored_dtype = *stored,
                             .max_batch_tokens = spec.max_batch_tokens,
                             .max_sequences = spec.max_sequences};
    const auto memory = model::MemoryOfRank(config, query);
    query.first_rank = false;
    const auto of_others = model::MemoryOfRank(config, query);
    if (memory.ok() && of_others.ok()) {
      cost.static_bytes = {memory->weight_bytes + memory->activation_bytes};
      cost.static_others = {of_others->weight_bytes + of_others->activation_bytes};
      cost.kv_bytes_per_token = {memory->kv_bytes_per_token};
      cost.kinds.push_back(CostOnCuda(config, spec, degree));
      if (degree == 1) spec.parameters = memory->weight_bytes / model::BytesOf(*stored);
    } else {
      cost.impossible = std::string(memory.status().message());
    }
  }
  return costs;
}

absl::StatusOr<std::shared_ptr<const chat::ChatTemplate>> LoadChatTemplate(const std::string& folder,
                                                                           const std::string& override_path,
                                                                           const tokenizer::Tokenizer& tokenizer) {
  auto files = chat::ReadTemplateFiles(folder, override_path);
  if (!files.ok()) return files.status();
  const auto default_to = [&](const char* name, std::optional<int32_t> id) {
    if (id) files->special_tokens.emplace(name, std::string(tokenizer.TokenBytes(*id)));
  };
  default_to("bos_token", tokenizer.bos_id());
  default_to("eos_token", tokenizer.eos_id());
  return chat::ChatTemplate::Make(*files);
}

absl::StatusOr<ServedModel> LoadOne(const config::ModelConfig& from, const model::FolderSearch& search) {
  const auto folder = model::ResolveModelFolder(from.path, search);
  if (!folder.ok()) return folder.status();
  if (from.task != "generate") return LoadEncoder(from, *folder);
  const auto config = model::ReadDecoderConfig(*folder);
  if (!config.ok()) return config.status();
  auto manifest = model::ReadManifest(*folder);
  if (!manifest.ok()) return manifest.status();
  auto tokenizer = tokenizer::Tokenizer::Load(*folder);
  if (!tokenizer.ok()) return tokenizer.status();
  auto chat_template = LoadChatTemplate(*folder, from.chat_template, **tokenizer);
  if (!chat_template.ok()) return chat_template.status();
  const auto file_dtype = FileDType(*config, *folder);
  if (!file_dtype.ok()) return file_dtype.status();

  ServedModel served;
  core::ModelSpec& spec = served.spec;
  spec.name = from.name;
  spec.aliases = from.aliases;
  spec.path = from.path;
  spec.revision = manifest->revision;
  spec.task = from.task;
  spec.dtype = from.dtype;
  spec.tensor_parallel = from.tensor_parallel;
  spec.replicas_min = from.replicas_min;
  spec.replicas_max = from.replicas_max;
  spec.max_model_len = config->max_positions;
  if (from.max_model_len > 0) {
    if (from.max_model_len > config->max_positions) {
      return absl::InvalidArgumentError(
          absl::StrFormat("max_model_len is %d; its files allow %d tokens", from.max_model_len, config->max_positions));
    }
    spec.max_model_len = from.max_model_len;
  }
  spec.max_sequences = from.max_num_seqs > 0 ? from.max_num_seqs : kDefaultSequences;
  spec.max_batch_tokens = std::max(kBatchTokens, spec.max_sequences);
  spec.priority = from.priority;
  spec.memory_utilization = from.memory_utilization;
  spec.for_latency = from.goal == "latency";
  spec.hidden = config->hidden;
  spec.layers = config->layers;
  auto costs = Costs(*config, spec, *file_dtype);
  if (!costs.ok()) return costs.status();
  spec.costs = *std::move(costs);
  spec.kv_most = {static_cast<int64_t>(from.kv_memory_bytes)};
  for (const core::ShardCost& cost : spec.costs) {
    const int64_t context = cost.kv_bytes_per_token.value * spec.max_model_len;
    if (cost.tensor_parallel != spec.tensor_parallel || spec.kv_most.value == 0 || spec.kv_most.value >= context)
      continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("kv_memory is %d bytes; one context of %d tokens takes %d on each of %d ranks; lower "
                        "max_model_len or give more",
                        spec.kv_most.value, spec.max_model_len, context, spec.tensor_parallel));
  }

  served.limits.name = spec.name;
  served.limits.max_model_len = static_cast<uint32_t>(spec.max_model_len);
  served.limits.vocab_size = static_cast<uint32_t>(config->vocab);
  ReadSamplingDefaults(*folder, &served.limits);
  served.manifest = std::move(manifest->files);
  served.tokenizer = *std::move(tokenizer);
  served.chat_template = *std::move(chat_template);
  served.limits.has_chat_template = served.chat_template != nullptr;
  return served;
}

}  // namespace

absl::StatusOr<ServedModel> ModelCatalog::LoadModel(const config::ModelConfig& model,
                                                    const model::FolderSearch& search) {
  auto served = LoadOne(model, search);
  if (!served.ok()) return Annotate(served.status(), model.name);
  served->config = model;
  return served;
}

absl::StatusOr<ModelCatalog> ModelCatalog::Load(const std::vector<config::ModelConfig>& models,
                                                const model::FolderSearch& search) {
  std::vector<ServedModel> loaded;
  for (const config::ModelConfig& model : models) {
    auto one = LoadModel(model, search);
    if (!one.ok()) return one.status();
    loaded.push_back(*std::move(one));
  }
  return ModelCatalog(std::move(loaded));
}

ModelCatalog::ModelCatalog(std::vector<ServedModel> models) : table_(std::make_unique<Table>()) {
  for (ServedModel& model : models) {
    uint32_t next = 0;
    {
      absl::MutexLock lock(&table_->mu);
      next = static_cast<uint32_t>(table_->models.size());
    }
    Put({next}, std::move(model));
  }
}

ServedModelPtr ModelCatalog::Find(const std::string& name) const {
  absl::MutexLock lock(&table_->mu);
  auto it = table_->names.find(name);
  if (it == table_->names.end()) it = table_->names.find("*");
  return it == table_->names.end() ? nullptr : table_->models[it->second];
}

ServedModelPtr ModelCatalog::FindNamed(const std::string& name) const {
  absl::MutexLock lock(&table_->mu);
  const auto it = table_->names.find(name);
  return it == table_->names.end() ? nullptr : table_->models[it->second];
}

ServedModelPtr ModelCatalog::At(core::ModelId id) const {
  absl::MutexLock lock(&table_->mu);
  return table_->models.at(id.value);
}

std::vector<ServedModelPtr> ModelCatalog::models() const {
  absl::MutexLock lock(&table_->mu);
  return table_->models;
}

std::string ModelCatalog::Names() const {
  absl::MutexLock lock(&table_->mu);
  std::vector<std::string> names;
  for (size_t i = 0; i < table_->models.size(); ++i) {
    if (!table_->removed[i]) names.push_back(table_->models[i]->spec.name);
  }
  return names.empty() ? "none" : absl::StrJoin(names, ", ");
}

void ModelCatalog::Put(core::ModelId id, ServedModel model) {
  auto entry = std::make_shared<const ServedModel>(std::move(model));
  absl::MutexLock lock(&table_->mu);
  const size_t index = id.value;
  absl::erase_if(table_->names, [&](const auto& name) { return name.second == index; });
  if (index == table_->models.size()) {
    table_->models.emplace_back();
    table_->removed.push_back(false);
  }
  table_->models.at(index) = entry;
  table_->names[entry->spec.name] = index;
  for (const std::string& alias : entry->spec.aliases) table_->names.emplace(alias, index);
}

void ModelCatalog::Remove(core::ModelId id) {
  absl::MutexLock lock(&table_->mu);
  const size_t index = id.value;
  absl::erase_if(table_->names, [&](const auto& name) { return name.second == index; });
  table_->removed.at(index) = true;
}

}  // namespace tandem::scheduler
