// tandemctl simulate: a trace through the scheduler's own core, in virtual time, without a cluster.
#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/trace/trace.h"
#include "client/ctl/plan_request.h"
#include "client/ctl/simulate_report.h"
#include "client/ctl/verbs.h"
#include "config/units.h"
#include "simulate/served_model.h"
#include "simulate/simulation.h"

namespace tandem::client::ctl {
namespace {

constexpr char kAll[] = "all";

struct SimulateFlags {
  PlanFlags cluster;
  std::string file;  // of the cluster
  std::string trace, tensor_parallel = "auto", format = "table";
  size_t requests = 0;
  int64_t slo_ttft_ms = 2000, slo_tpot_ms = 100;  // MLPerf's server scenario for Llama-3.1-8B
  simulate::ModelChoice model;
  simulate::SimulationOptions options;
};

absl::StatusOr<std::vector<std::string>> ReadPolicies(const SimulateFlags& flags) {
  const auto known = simulate::Policies();
  if (flags.options.policy == kAll) return std::vector<std::string>(known.begin(), known.end());
  if (std::find(known.begin(), known.end(), flags.options.policy) == known.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--policy ", flags.options.policy, ": there are ", absl::StrJoin(known, ", "), ", and all"));
  }
  return std::vector<std::string>{flags.options.policy};
}

absl::Status Run(const SimulateFlags& flags) {
  const auto policies = ReadPolicies(flags);
  if (!policies.ok()) return policies.status();
  simulate::ModelChoice choice = flags.model;
  if (flags.tensor_parallel != "auto") {
    const auto degree = config::ParseInteger(flags.tensor_parallel, 1, 8);
    if (!degree.ok()) return absl::InvalidArgumentError(absl::StrCat("--tensor-parallel: ", degree.status().message()));
    choice.tensor_parallel = static_cast<int>(*degree);
  }
  auto trace = ReadTraceFile(flags.trace);
  if (!trace.ok()) return trace.status();
  if (flags.requests > 0 && flags.requests < trace->size()) trace->resize(flags.requests);
  int64_t longest = 0;
  for (const TraceRequest& request : *trace) {
    longest = std::max(longest, int64_t{request.input_tokens} + request.output_tokens);
  }
  const auto model = simulate::DescribeModel(choice, longest);
  if (!model.ok()) return model.status();
  const auto cluster = ReadPlanRequest(flags.cluster);
  if (!cluster.ok()) return cluster.status();

  const SimulateHeader header{.trace = flags.trace,
                              .cluster = flags.file,
                              .model = choice.name,
                              .load_factor = flags.options.load_factor,
                              .seed = flags.options.seed,
                              .slo_ttft_ms = flags.slo_ttft_ms,
                              .slo_tpot_ms = flags.slo_tpot_ms};
  std::vector<SimulateReport> reports;
  for (const std::string& policy : *policies) {
    simulate::SimulationOptions options = flags.options;
    options.policy = policy;
    const auto result = simulate::Simulate(*trace, cluster->topology, *model, options);
    if (!result.ok())
      return absl::Status(result.status().code(), absl::StrCat(flags.file, ": ", result.status().message()));
    reports.push_back(MakeReport(policy, *result, header));
  }
  if (flags.format == "table") {
    std::cout << ToTable(header, reports) << std::flush;
  } else if (flags.options.policy != kAll) {
    std::cout << ToJson(header, reports.front()).dump(2) << std::endl;
  } else {
    auto list = nlohmann::ordered_json::array();
    for (const SimulateReport& report : reports) list.push_back(ToJson(header, report));
    std::cout << nlohmann::ordered_json{{"results", list}}.dump(2) << std::endl;
  }
  return absl::OkStatus();
}

// Whatever is wrong is wrong with what was asked: there is no service that could refuse.
int RunVerb(const SimulateFlags& flags) {
  const absl::Status status = Run(flags);
  Report(status);
  return status.ok() ? kOk : kUsage;
}

}  // namespace

void AddSimulate(CLI::App& app, Context& context) {
  auto flags = std::make_shared<SimulateFlags>();
  CLI::App* verb = app.add_subcommand("simulate", "Replay a trace in virtual time, by our policy or another's");
  verb->add_option("--trace", flags->trace, "Requests: CSV or JSON lines, plain or gzip")->required();
  verb->add_option("--cluster", flags->file, "Cluster YAML, nvidia-smi topo -m text or NCCL topology XML")->required();
  verb->add_option("--policy", flags->options.policy,
                   absl::StrCat("Who routes: ", absl::StrJoin(simulate::Policies(), ", "), "; all: one table of them"))
      ->capture_default_str();
  verb->add_option("--load-factor", flags->options.load_factor, "Of the trace's rate: 2 is twice the requests a second")
      ->check(CLI::Range(1e-3, 1e3))
      ->capture_default_str();
  verb->add_option("--seed", flags->options.seed, "Of prompts and of what policies draw")->capture_default_str();
  verb->add_option("--requests", flags->requests, "Only the first so many");
  verb->add_option("--model", flags->model.name,
                   absl::StrCat(simulate::KnownModels(), ", or a folder with a config.json"))
      ->capture_default_str();
  verb->add_option("--tensor-parallel", flags->tensor_parallel, "auto or a degree")->capture_default_str();
  verb->add_option("--replicas", flags->options.replicas, "Groups; as many as have room where it is not given")
      ->check(CLI::Range(1, 100000));
  verb->add_option("--max-model-len", flags->model.max_model_len, "Context; else as long as the longest request")
      ->check(CLI::Range(1, 1 << 24));
  verb->add_option("--max-num-seqs", flags->model.max_sequences, "Sequences that an engine runs together")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  verb->add_option("--max-batch-tokens", flags->model.max_batch_tokens, "Tokens of one step")
      ->check(CLI::Range(16, 1 << 20))
      ->capture_default_str();
  verb->add_option("--gpu", flags->cluster.gpu, "Chip, where the file does not name it: V100, A100, H100, ..");
  verb->add_option("--memory", flags->cluster.memory, "Bytes of each device, where the file does not say");
  verb->add_option("--utilization", flags->options.memory_utilization, "Share of a device's memory that may be used")
      ->check(CLI::Range(0.01, 1.0))
      ->capture_default_str();
  verb->add_option("--slo-ttft-ms", flags->slo_ttft_ms, "Goodput: first token within")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
      ->capture_default_str();
  verb->add_option("--slo-tpot-ms", flags->slo_tpot_ms, "Goodput: time per token after it within")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
      ->capture_default_str();
  verb->add_option("-o,--output", flags->format, "table or json")
      ->check(CLI::IsMember({"table", "json"}))
      ->capture_default_str();
  verb->callback([&context, flags] {
    flags->cluster.topology = {flags->file};
    context.exit_code = RunVerb(*flags);
  });
}

}  // namespace tandem::client::ctl
