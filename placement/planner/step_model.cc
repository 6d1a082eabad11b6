#include "placement/planner/step_model.h"

#include <algorithm>

#include "glog/logging.h"
#include "placement/planner/saturating.h"

namespace tandem::placement {
namespace {

// Of the data sheet's figures: profiles reach 0.76 to 0.89 and 0.60 to 0.73.
constexpr int kMemoryPermille = 800;
constexpr int kArithmeticPermille = 650;
// Norms, rotary embedding and the launches of a layer, which do not shrink with the degree; and what the host does
// between two steps when they are recorded graphs. A CPU device launches nothing.
constexpr int64_t kLayerNs = 25'000;
constexpr int64_t kHostNs = 700'000;
// What NCCL's model lacks for small messages: it gives 14 and 17 us where 19 and 22 us were measured.
constexpr int64_t kCollectiveExtraNs = 4'000;

}  // namespace

int64_t StepNs(const ModelWork& model, const StepGroup& group, const StepShape& step) {
  CHECK(group.chip != nullptr && group.ranks >= 1 && (group.ranks == 1 || group.ring != nullptr))
      << group.ranks << " ranks";
  const Chip& chip = *group.chip;
  const bool cpu = &chip == &CpuChip();
  const __int128 tokens = static_cast<__int128>(step.decodes) + step.prefill_tokens;

  // A prompt's piece reads what came before it once, each decode its own context.
  const __int128 context_read = static_cast<__int128>(step.decodes) * step.context + step.prefill_context;
  const __int128 bytes = model.weight_bytes + context_read * model.kv_bytes_per_token;
  // MB/s are bytes per microsecond, and thousandths of them bytes per millisecond.
  const __int128 memory_rate =
      group.memory_mbps > 0 ? static_cast<__int128>(group.memory_mbps) * 1000 : chip.memory_mbps * kMemoryPermille;
  const int64_t memory_ns = Saturated(bytes * 1'000'000 / (memory_rate * group.ranks));

  // Scores and their product with the values: two products of hidden width per token and token before it. In a prompt
  // a token has half of the piece before it, and nothing of other prompts.
  const int64_t before = (step.prefill_context + step.prefill_tokens / 2) / std::max<int64_t>(1, step.prompts);
  const __int128 pairs =
      static_cast<__int128>(step.decodes) * step.context + static_cast<__int128>(step.prefill_tokens) * before;
  const __int128 sampled = step.decodes + (step.prefill_tokens > 0 ? step.prompts : 0);
  const __int128 products = tokens * (model.parameters - model.head_parameters) + sampled * model.head_parameters;
  const __int128 operations = 2 * products + 4 * pairs * model.hidden * model.layers;
  // GFLOP/s are operations per nanosecond.
  const __int128 arithmetic_rate = static_cast<__int128>(chip.bf16_gflops) * kArithmeticPermille * group.ranks;
  const int64_t arithmetic_ns = Saturated(operations * 1000 / arithmetic_rate);

  int64_t layer_ns = cpu ? 0 : kLayerNs;
  if (group.ranks > 1) {
    const int64_t message = Saturated(tokens * model.hidden * model.element_bytes);
    const int64_t extra = cpu ? 0 : kCollectiveExtraNs;
    const int64_t all_reduce = SaturatingAdd(extra, AllReduceNs(*group.ring, group.ranks, message, group.hosts));
    layer_ns = SaturatingAdd(layer_ns, SaturatingMultiply(2, all_reduce));
  }
  const int64_t layers_ns = SaturatingMultiply(model.layers, layer_ns);
  return SaturatingAdd(std::max(memory_ns, arithmetic_ns), SaturatingAdd(layers_ns, cpu ? 0 : kHostNs));
}

int64_t PrefillNs(const ModelWork& model, const StepGroup& group, const Workload& workload) {
  const int64_t prompt = std::max(0, workload.prompt_tokens);
  const int64_t chunk = std::max(1, workload.prefill_chunk);
  int64_t prefill = 0;
  for (int64_t done = 0; done < prompt; done += chunk) {
    const StepShape piece = {.prefill_tokens = std::min(chunk, prompt - done), .prefill_context = done};
    prefill = SaturatingAdd(prefill, StepNs(model, group, piece));
  }
  return prefill;
}

int64_t ServingStepNs(const ModelWork& model, const StepGroup& group, const Workload& workload, int64_t sequences) {
  const int64_t prompt = std::max(0, workload.prompt_tokens), output = std::max(1, workload.output_tokens);
  const int64_t decode = StepNs(model, group, {.decodes = sequences, .context = prompt + output / 2});
  const __int128 prefill = static_cast<__int128>(PrefillNs(model, group, workload)) * sequences / output;
  return SaturatingAdd(decode, Saturated(prefill));
}

}  // namespace tandem::placement
