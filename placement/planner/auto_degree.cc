#include "placement/planner/auto_degree.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "glog/logging.h"
#include "placement/planner/saturating.h"
#include "placement/planner/step_model.h"

namespace tandem::placement {
namespace {

// Of the fastest time: less than this is not worth half of the throughput.
constexpr int kSlowerPermille = 1050;

ModelWork WorkOf(const ModelDemand& model, const Shape& shape) {
  ModelWork work;
  work.layers = model.workload.layers;
  work.hidden = model.workload.hidden;
  work.element_bytes = std::max(1, model.workload.element_bytes);
  // Where the weights are not known, all that a rank holds besides KV is taken for them.
  work.weight_bytes = model.weight_bytes > 0 ? model.weight_bytes : SaturatingMultiply(shape.fixed_bytes, shape.ranks);
  work.parameters = model.parameters > 0 ? model.parameters : work.weight_bytes / work.element_bytes;
  work.kv_bytes_per_token = SaturatingMultiply(shape.kv_bytes_per_token, shape.ranks);
  return work;
}

// Output tokens per second of one replica with `sequences` running together: each passes its prompt through once,
// alone, and then has a token of every step.
int64_t TokensPerSecond(const ModelWork& work, const StepGroup& group, const Workload& workload, int64_t sequences) {
  const int64_t prompt = std::max(0, workload.prompt_tokens), output = std::max(1, workload.output_tokens);
  const int64_t decode = StepNs(work, group, {.decodes = sequences, .context = prompt + output / 2});
  const int64_t prefill = PrefillNs(work, group, workload);
  const __int128 ns = static_cast<__int128>(decode) * output + static_cast<__int128>(prefill) * sequences;
  return Saturated(static_cast<__int128>(sequences) * output * 1'000'000'000 / std::max<__int128>(1, ns));
}

std::string WithCommas(int64_t value) {
  const std::string digits = absl::StrCat(value);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text.push_back(',');
    text.push_back(digits[i]);
  }
  return text;
}

std::string Name(const Option& option) {
  return absl::StrCat(option.replicas, option.replicas == 1 ? " replica" : " replicas", " of TP=", option.degree);
}

std::string Figure(const Option& option, Goal goal) {
  if (goal == Goal::kThroughput) return absl::StrCat(WithCommas(option.tokens_per_s), " tok/s");
  return absl::StrFormat("%.1f ms per token", option.ns_per_token_alone / 1e6);
}

// Whether `a` is the better one. `fast_enough`: the time of a token below which options count as equally fast.
bool Better(const Option& a, const Option& b, Goal goal, int64_t fast_enough) {
  if (goal == Goal::kLatency) {
    const int64_t a_ns = std::max(a.ns_per_token_alone, fast_enough);
    const int64_t b_ns = std::max(b.ns_per_token_alone, fast_enough);
    if (a_ns != b_ns) return a_ns < b_ns;
  }
  if (a.tokens_per_s != b.tokens_per_s) return a.tokens_per_s > b.tokens_per_s;
  return a.degree < b.degree;
}

int Best(absl::Span<const Option> options, Goal goal, int degree) {
  int64_t fastest = std::numeric_limits<int64_t>::max();
  for (const Option& option : options) fastest = std::min(fastest, option.ns_per_token_alone);
  const int64_t fast_enough = Saturated(static_cast<__int128>(fastest) * kSlowerPermille / 1000);
  int best = -1;
  for (int i = 0; i < static_cast<int>(options.size()); ++i) {
    if (degree != 0 && options[i].degree != degree) continue;
    if (best < 0 || Better(options[i], options[best], goal, fast_enough)) best = i;
  }
  return best;
}

}  // namespace

std::vector<Option> PredictOptions(const ModelDemand& model, const EqualDevices& devices, int most_sequences) {
  CHECK_EQ(devices.rings.size(), model.shapes.size()) << "one ring per shape";
  std::vector<Option> options;
  const int64_t tokens_of_request =
      std::max(int64_t{1}, int64_t{model.workload.prompt_tokens} + model.workload.output_tokens);
  for (size_t s = 0; s < model.shapes.size(); ++s) {
    const Shape& shape = model.shapes[s];
    if (!shape.impossible.empty() || shape.ranks < 1 || shape.ranks > devices.count) continue;
    if (shape.Least() > devices.usable_bytes) continue;
    int64_t kv_bytes = devices.usable_bytes - shape.fixed_bytes;
    if (shape.kv_most_bytes > 0) kv_bytes = std::min(kv_bytes, shape.kv_most_bytes);
    Option option{.shape = static_cast<int>(s), .degree = shape.ranks};
    option.sequences = most_sequences;
    if (shape.kv_bytes_per_token > 0) {
      option.kv_tokens = kv_bytes / shape.kv_bytes_per_token;
      option.sequences = std::min(option.sequences, option.kv_tokens / tokens_of_request);
    }
    if (option.sequences == 0) continue;
    const ModelWork work = WorkOf(model, shape);
    const StepGroup group = {
        .chip = devices.chip, .ranks = shape.ranks, .ring = &devices.rings[s], .memory_mbps = devices.memory_mbps};
    const int64_t each = TokensPerSecond(work, group, model.workload, option.sequences);
    option.ns_per_token_alone = StepNs(work, group, {.decodes = 1, .context = model.workload.prompt_tokens});
    for (option.replicas = devices.count / shape.ranks; option.replicas > 0; --option.replicas) {
      option.tokens_per_s = SaturatingMultiply(each, option.replicas);
      options.push_back(option);
    }
  }
  return options;
}

int ChooseOption(absl::Span<const Option> options, Goal goal) { return Best(options, goal, 0); }

std::string ExplainChoice(absl::Span<const Option> options, int chosen, Goal goal) {
  if (chosen < 0) return "no degree fits these devices";
  const Option& taken = options[chosen];
  std::string text = absl::StrCat(Name(taken), ": ", Figure(taken, goal), " predicted");
  for (const Option& one : options) {
    if (one.degree != 1 || one.replicas != 1 || &one == &taken) continue;
    const double times = goal == Goal::kThroughput
                             ? static_cast<double>(taken.tokens_per_s) / std::max(int64_t{1}, one.tokens_per_s)
                             : static_cast<double>(one.ns_per_token_alone) / taken.ns_per_token_alone;
    absl::StrAppendFormat(&text, ", %.2fx one of TP=1", times);
  }
  std::vector<int> degrees;
  for (const Option& option : options) degrees.push_back(option.degree);
  std::sort(degrees.begin(), degrees.end());
  degrees.erase(std::unique(degrees.begin(), degrees.end()), degrees.end());
  for (const int degree : degrees) {
    if (degree == taken.degree) continue;
    const Option& other = options[Best(options, goal, degree)];
    absl::StrAppend(&text, "; ", Name(other), ": ", Figure(other, goal));
  }
  return text;
}

}  // namespace tandem::placement
