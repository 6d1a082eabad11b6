#include "scheduler/encoder_catalog.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/model/clip_config.h"
#include "base/model/clip_memory.h"
#include "base/model/cuda_memory.h"
#include "base/model/encoder_config.h"
#include "base/model/encoder_memory.h"
#include "base/model/image_limits.h"
#include "base/model/model_memory.h"

namespace tandem::scheduler {
namespace {

constexpr int32_t kDefaultSequences = 64;
// More tokens in a step make it no faster on a CPU, only longer for those who wait for the device.
constexpr int32_t kBatchTokens = 1024;

// What the catalog wants to know of an encoder, of whatever kind.
struct Shape {
  int32_t longest = 0;       // text, in tokens
  int32_t image_tokens = 0;  // 0: no pictures
  int32_t vector = 0;
  int32_t vocab = 0;
  int32_t hidden = 0;
  int32_t layers = 0;
  model::DType dtype = model::DType::kFloat32;  // as the files have it
  int64_t queued_token_bytes = 0;
  std::function<int64_t(model::DType stored)> weight_bytes;
  std::function<int64_t(int32_t batch_tokens, int32_t sequences)> working_bytes;
  std::function<model::CudaMemory(const model::CudaEncoderQuery& query)> on_cuda;
};

absl::StatusOr<Shape> ReadTextEncoder(const std::string& folder, const std::string& task) {
  const auto config = model::ReadEncoderConfig(folder, task);
  if (!config.ok()) return config.status();
  return Shape{.longest = config->max_tokens,
               .vector = config->vector_size(),
               .vocab = config->vocab,
               .hidden = config->hidden,
               .layers = config->layers,
               .dtype = config->dtype.value_or(model::DType::kFloat32),
               .queued_token_bytes = model::kQueuedTokenBytes,
               .weight_bytes = [c = *config](model::DType stored) { return model::EncoderWeightBytes(c, stored); },
               .working_bytes =
                   [c = *config](int32_t tokens, int32_t sequences) {
                     return model::SizeEncoderArena(c, tokens, sequences).total_bytes;
                   },
               .on_cuda = [c = *config](const auto& query) { return model::CudaMemoryOfEncoder(c, query); }};
}

absl::StatusOr<Shape> ReadClip(const std::string& folder, const std::string& task) {
  const auto config = model::ReadClipConfig(folder, task);
  if (!config.ok()) return config.status();
  return Shape{.longest = config->text.positions,
               .image_tokens = config->image_tokens(),
               .vector = config->vector,
               .vocab = config->vocab,
               .hidden = std::max(config->text.hidden, config->image.hidden),
               .layers = std::max(config->text.layers, config->image.layers),
               .dtype = config->dtype.value_or(model::DType::kFloat32),
               .queued_token_bytes = model::ClipQueuedTokenBytes(*config),
               .weight_bytes = [c = *config](model::DType stored) { return model::ClipWeightBytes(c, stored); },
               .working_bytes =
                   [c = *config](int32_t tokens, int32_t sequences) {
                     return model::SizeClipArena(c, tokens, sequences).total_bytes + model::kImageDecodeBytes;
                   },
               .on_cuda = [c = *config](const auto& query) { return model::CudaMemoryOfClip(c, query); }};
}

// GPUs compute in 16 bits: in the files' where these are bfloat16, else in float16. Asked for more by name, they say so
// when they load.
core::KindCost CostOnCuda(const Shape& shape, const core::ModelSpec& spec) {
  model::CudaEncoderQuery query{.max_batch_tokens = spec.max_batch_tokens, .max_sequences = spec.max_sequences};
  if (spec.dtype == "auto" && shape.dtype == model::DType::kBFloat16) query.dtype = model::DType::kBFloat16;
  for (const model::DType type : {model::DType::kBFloat16, model::DType::kFloat32}) {
    if (spec.dtype == model::NameOf(type)) query.dtype = type;
  }
  const model::CudaMemory memory = shape.on_cuda(query);
  return {"cuda", {memory.Static()}, {memory.Static()}, {memory.kv_bytes_per_token}};
}

absl::Status CheckPairs(const tokenizer::Tokenizer& tokenizer) {
  return tokenizer.EncodeForEncoder("a", absl::string_view("b"), {}).status();
}

}  // namespace

absl::StatusOr<ServedModel> LoadEncoder(const config::ModelConfig& from, const std::string& folder) {
  const auto shape = model::IsClipFolder(folder) ? ReadClip(folder, from.task) : ReadTextEncoder(folder, from.task);
  if (!shape.ok()) return shape.status();
  if (from.tensor_parallel > 1) {
    return absl::InvalidArgumentError(absl::StrCat("tensor_parallel is ", from.tensor_parallel,
                                                   "; a model of the task ", from.task, " runs on one rank"));
  }
  auto manifest = model::ReadManifest(folder);
  if (!manifest.ok()) return manifest.status();
  auto tokenizer = tokenizer::Tokenizer::Load(folder);
  if (!tokenizer.ok()) return tokenizer.status();
  if (from.task == "rerank") {
    if (absl::Status pairs = CheckPairs(**tokenizer); !pairs.ok()) return pairs;
  }
  if ((*tokenizer)->vocab_size() > shape->vocab) {
    return absl::InvalidArgumentError(absl::StrCat("the tokenizer has ", (*tokenizer)->vocab_size(),
                                                   " tokens, config.json has a vocab_size of ", shape->vocab));
  }
  int32_t longest = shape->longest;
  if (from.max_model_len > longest) {
    return absl::InvalidArgumentError(
        absl::StrFormat("max_model_len is %d; its files allow %d tokens", from.max_model_len, longest));
  }
  if (from.max_model_len > 0) longest = static_cast<int32_t>(from.max_model_len);
  // GPUs compute in float16; a CPU that is given such a model says so when it loads.
  const bool half = from.dtype == model::NameOf(model::DType::kFloat16);
  const absl::StatusOr<model::DType> stored =
      half ? model::DType::kFloat16 : model::ChooseStoredDType(from.dtype, shape->dtype);
  if (!stored.ok()) return stored.status();

  ServedModel served;
  served.config = from;
  core::ModelSpec& spec = served.spec;
  spec.name = from.name;
  spec.aliases = from.aliases;
  spec.path = from.path;
  spec.revision = manifest->revision;
  spec.task = from.task;
  spec.dtype = from.dtype;
  spec.tensor_parallel = 1;
  spec.replicas_min = from.replicas_min;
  spec.replicas_max = from.replicas_max;
  const int32_t longest_input = std::max(longest, shape->image_tokens);
  spec.max_model_len = longest_input + 1;
  spec.max_sequences = from.max_num_seqs > 0 ? from.max_num_seqs : kDefaultSequences;
  spec.max_batch_tokens = std::max({kBatchTokens, longest_input, shape->longest, spec.max_sequences});
  spec.priority = from.priority;
  spec.memory_utilization = from.memory_utilization;
  spec.for_latency = from.goal == "latency";
  spec.hidden = shape->hidden;
  spec.layers = shape->layers;
  core::ShardCost cost;
  const int64_t weights = shape->weight_bytes(*stored);
  cost.static_bytes = {weights + shape->working_bytes(spec.max_batch_tokens, spec.max_sequences)};
  cost.kv_bytes_per_token = {shape->queued_token_bytes};
  cost.kinds.push_back(CostOnCuda(*shape, spec));
  spec.parameters = weights / model::BytesOf(*stored);
  spec.costs.push_back(std::move(cost));

  served.limits.name = spec.name;
  served.limits.max_model_len = static_cast<uint32_t>(longest);
  served.limits.vocab_size = static_cast<uint32_t>(shape->vocab);
  served.encoder = EncoderLimits{.max_tokens = static_cast<uint32_t>(longest),
                                 .vector_size = static_cast<uint32_t>(shape->vector),
                                 .image_tokens = static_cast<uint32_t>(shape->image_tokens)};
  served.manifest = std::move(manifest->files);
  served.tokenizer = *std::move(tokenizer);
  return served;
}

}  // namespace tandem::scheduler
