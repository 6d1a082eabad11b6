// What `tensor_parallel: auto` takes on two RTX 3090 with an NVLink bridge, beside the speedups that are claimed for
// them. A prediction of the planner's model: nothing here is measured, and no GPU is needed.
#include <cstdio>
#include <string>
#include <vector>

#include "placement/planner/auto_degree.h"
#include "placement/planner/dual_3090.h"

namespace tandem::placement {
namespace {

const Option* Find(const std::vector<Option>& options, int degree, int replicas) {
  for (const Option& option : options) {
    if (option.degree == degree && option.replicas == replicas) return &option;
  }
  return nullptr;
}

const char* Verdict(double speedup, double claim) { return speedup >= claim ? "reaches it" : "falls short"; }

void Print(const ClaimedModel& claimed) {
  const std::vector<Option> options = PredictOptions(claimed.model, Dual3090());
  const Option* one = Find(options, 1, 1);
  const double claim = claimed.claim_permille / 1000.0;
  std::printf("\n%s, claimed %.2fx\n", claimed.model.name.c_str(), claim);
  std::printf("  %-22s %10s %9s %9s %12s %9s %12s\n", "", "KV tokens", "together", "tok/s", "times one", "ms alone",
              "times one");
  const struct {
    const char* name;
    const Option* option;
  } rows[] = {
      {"one GPU", one}, {"TP=2 over NVLink", Find(options, 2, 1)}, {"two replicas of TP=1", Find(options, 1, 2)}};
  for (const auto& [name, option] : rows) {
    const double throughput = static_cast<double>(option->tokens_per_s) / one->tokens_per_s;
    const double latency = static_cast<double>(one->ns_per_token_alone) / option->ns_per_token_alone;
    std::printf("  %-22s %10lld %9lld %9lld %11.2fx %9.2f %11.2fx\n", name, static_cast<long long>(option->kv_tokens),
                static_cast<long long>(option->sequences), static_cast<long long>(option->tokens_per_s), throughput,
                option->ns_per_token_alone / 1e6, latency);
    if (option == one) continue;
    std::printf("  %-22s throughput %s, a request alone %s\n", "", Verdict(throughput, claim),
                option->degree == 1 ? "gains nothing" : Verdict(latency, claim));
  }
  for (const Goal goal : {Goal::kThroughput, Goal::kLatency}) {
    const int chosen = ChooseOption(options, goal);
    std::printf("  auto, %s: %s\n", goal == Goal::kThroughput ? "throughput" : "latency",
                ExplainChoice(options, chosen, goal).c_str());
  }
}

}  // namespace
}  // namespace tandem::placement

int main() {
  const std::vector<tandem::placement::ClaimedModel> models = tandem::placement::ClaimedModels();
  std::printf("Predicted by the step model, not measured. Requests of %d + %d tokens, at most %d together, bf16.\n",
              models[0].model.workload.prompt_tokens, models[0].model.workload.output_tokens,
              tandem::placement::kMostSequences);
  for (const auto& claimed : models) tandem::placement::Print(claimed);
  return 0;
}
