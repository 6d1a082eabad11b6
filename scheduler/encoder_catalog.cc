#include "scheduler/encoder_catalog.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/model/encoder_config.h"
#include "base/model/encoder_memory.h"
#include "base/model/model_memory.h"

namespace tandem::scheduler {
namespace {

constexpr int32_t kDefaultSequences = 64;
// More tokens in a step make it no faster on a CPU, only longer for those who wait for the device.
constexpr int32_t kBatchTokens = 1024;

absl::Status CheckPairs(const tokenizer::Tokenizer& tokenizer) {
  return tokenizer.EncodeForEncoder("a", absl::string_view("b"), {}).status();
}

}  // namespace

absl::StatusOr<ServedModel> LoadEncoder(const config::ModelConfig& from, const std::string& folder) {
  const auto config = model::ReadEncoderConfig(folder, from.task);
  if (!config.ok()) return config.status();
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
  if ((*tokenizer)->vocab_size() > config->vocab) {
    return absl::InvalidArgumentError(absl::StrCat("the tokenizer has ", (*tokenizer)->vocab_size(),
                                                   " tokens, config.json has a vocab_size of ", config->vocab));
  }
  int32_t longest = config->max_tokens;
  if (from.max_model_len > longest) {
    return absl::InvalidArgumentError(
        absl::StrFormat("max_model_len is %d; its files allow %d tokens", from.max_model_len, longest));
  }
  if (from.max_model_len > 0) longest = static_cast<int32_t>(from.max_model_len);
  const auto stored = model::ChooseStoredDType(from.dtype, config->dtype.value_or(model::DType::kFloat32));
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
  spec.max_model_len = longest + 1;
  spec.max_sequences = from.max_num_seqs > 0 ? from.max_num_seqs : kDefaultSequences;
  spec.max_batch_tokens = std::max(model::EncoderBatchTokens(*config, kBatchTokens), spec.max_sequences);
  spec.priority = from.priority;
  spec.memory_utilization = from.memory_utilization;
  spec.for_latency = from.goal == "latency";
  spec.hidden = config->hidden;
  spec.layers = config->layers;
  core::ShardCost cost;
  const int64_t weights = model::EncoderWeightBytes(*config, *stored);
  cost.static_bytes = {weights +
                       model::SizeEncoderArena(*config, spec.max_batch_tokens, spec.max_sequences).total_bytes};
  cost.kv_bytes_per_token = {model::kQueuedTokenBytes};
  spec.parameters = weights / model::BytesOf(*stored);
  spec.costs.push_back(std::move(cost));

  served.limits.name = spec.name;
  served.limits.max_model_len = static_cast<uint32_t>(longest);
  served.limits.vocab_size = static_cast<uint32_t>(config->vocab);
  served.encoder = EncoderLimits{.max_tokens = static_cast<uint32_t>(longest),
                                 .vector_size = static_cast<uint32_t>(config->vector_size())};
  served.manifest = std::move(manifest->files);
  served.tokenizer = *std::move(tokenizer);
  return served;
}

}  // namespace tandem::scheduler
