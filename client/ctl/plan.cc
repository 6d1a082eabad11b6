// tandemctl plan: placement without a cluster, by the planner that the scheduler uses.
#include <chrono>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "client/ctl/plan_request.h"
#include "client/ctl/print.h"
#include "client/ctl/verbs.h"
#include "config/units.h"
#include "placement/planner/planner.h"

namespace tandem::client::ctl {
namespace {

using nlohmann::ordered_json;
using placement::Demand;
using placement::Plan;
using placement::Topology;

std::string NameOf(const Topology& topology, placement::DeviceRef ref) {
  return topology.hosts[ref.host].devices[ref.device].name;
}

const char* VerdictOf(placement::Fit fit) { return fit == placement::Fit::kNever ? "never" : "later"; }

ordered_json ToJson(const Topology& topology, const Demand& demand, const Plan& plan, bool explain,
                    int64_t elapsed_us) {
  ordered_json groups = ordered_json::array(), unplaced = ordered_json::array();
  for (const placement::PlannedGroup& group : plan.groups) {
    ordered_json devices = ordered_json::array();
    for (const auto& ref : group.devices) devices.push_back(NameOf(topology, ref));
    const bool alone = group.devices.size() == 1;
    ordered_json out = {{"model", demand.models[group.model].name},
                        {"replica", group.replica},
                        {"devices", devices},
                        {"ring_bandwidth_gbps", alone ? ordered_json() : ordered_json(group.ring.mbps / 1000.0)},
                        {"bottleneck", group.ring.bottleneck},
                        {"kv_bytes", group.kv_bytes * static_cast<int64_t>(group.devices.size())}};
    if (explain) out["why"] = Describe(topology, demand, group);
    groups.push_back(std::move(out));
  }
  for (const placement::UnplacedReplica& replica : plan.unplaced) {
    unplaced.push_back({{"model", demand.models[replica.model].name},
                        {"replica", replica.replica},
                        {"verdict", VerdictOf(replica.fit)},
                        {"reason", replica.reason}});
  }
  ordered_json result = {{"groups", groups},
                         {"unplaced", unplaced},
                         {"cost",
                          {{"unplaced", plan.cost.unplaced},
                           {"worst_ratio", plan.cost.worst_ratio_permille / 1000.0},
                           {"communication_ns_per_token", plan.cost.sum_ns},
                           {"moved_bytes", plan.cost.moved_bytes},
                           {"residual", plan.cost.residual},
                           {"waste_bytes", plan.cost.waste_bytes},
                           {"numa_crossings", plan.cost.numa_crossings}}},
                         {"optimal", plan.optimal},
                         {"bound", plan.bound_ns}};
  if (explain) {
    ordered_json reports = ordered_json::array();
    for (size_t m = 0; m < demand.models.size(); ++m) {
      const placement::ModelReport& report = plan.reports[m];
      ordered_json excluded = ordered_json::object(), examples = ordered_json::array();
      for (int i = 0; i < placement::kExclusions; ++i) {
        if (report.excluded[i] > 0) excluded[Word(static_cast<placement::Exclusion>(i))] = report.excluded[i];
      }
      for (const auto& out : report.examples) {
        examples.push_back({{"device", NameOf(topology, out.device)},
                            {"why", Word(out.why)},
                            {"has_bytes", out.has_bytes},
                            {"needs_bytes", out.needs_bytes}});
      }
      reports.push_back({{"model", demand.models[m].name},
                         {"candidates", report.candidates},
                         {"excluded", excluded},
                         {"examples", examples},
                         {"degrees", report.degrees}});
    }
    result["reports"] = reports;
  }
  result["elapsed_us"] = elapsed_us;
  return result;
}

void PrintText(const Topology& topology, const Demand& demand, const Plan& plan, bool explain) {
  Table table({"MODEL", "DEVICES", "GB/S", "NARROWEST", "KV"});
  for (const placement::PlannedGroup& group : plan.groups) {
    std::string devices;
    for (const auto& ref : group.devices) absl::StrAppend(&devices, devices.empty() ? "" : ",", NameOf(topology, ref));
    const bool alone = group.devices.size() == 1;
    table.Add({absl::StrCat(demand.models[group.model].name, "/", group.replica), devices,
               alone ? "-" : absl::StrCat(group.ring.mbps / 1000.0), OrDash(group.ring.bottleneck),
               config::FormatBytesShort(group.kv_bytes * static_cast<int64_t>(group.devices.size()))});
  }
  if (!plan.groups.empty()) std::cout << table.ToString();
  for (const placement::UnplacedReplica& replica : plan.unplaced) {
    std::cout << demand.models[replica.model].name << "/" << replica.replica << " " << VerdictOf(replica.fit) << ": "
              << replica.reason << "\n";
  }
  std::cout << (plan.optimal ? "optimal" : "not proven optimal") << ": " << plan.cost.sum_ns
            << " ns of collectives per token in all groups, no plan has less than " << plan.bound_ns << "\n";
  if (!explain) return;
  for (const placement::PlannedGroup& group : plan.groups)
    std::cout << "  " << Describe(topology, demand, group) << "\n";
  for (size_t m = 0; m < demand.models.size(); ++m) {
    const placement::ModelReport& report = plan.reports[m];
    std::cout << "  " << demand.models[m].name << ": " << report.candidates << " sets scored\n";
    for (const std::string& degree : report.degrees) std::cout << "    " << degree << "\n";
    for (const auto& out : report.examples) {
      std::cout << "    " << NameOf(topology, out.device) << " " << Word(out.why);
      if (out.why == placement::Exclusion::kTooSmall || out.why == placement::Exclusion::kMemoryTaken) {
        std::cout << ": has " << config::FormatBytesShort(out.has_bytes) << ", needs "
                  << config::FormatBytesShort(out.needs_bytes);
      }
      std::cout << "\n";
    }
  }
}

int RunPlan(const PlanFlags& flags, bool json, bool explain) {
  const auto request = ReadPlanRequest(flags);
  if (!request.ok()) {
    Report(request.status());
    return kUsage;
  }
  const auto begin = std::chrono::steady_clock::now();
  const Plan plan = placement::MakePlan(request->topology, request->demand);
  const auto elapsed = std::chrono::steady_clock::now() - begin;
  const int64_t us = std::chrono::duration_cast<std::chrono::microseconds>(elapsed).count();
  if (json) {
    std::cout << ToJson(request->topology, request->demand, plan, explain, us).dump(2) << std::endl;
  } else {
    PrintText(request->topology, request->demand, plan, explain);
    std::cout << std::flush;
  }
  return kOk;
}

}  // namespace

void AddPlan(CLI::App& app, Context& context) {
  auto flags = std::make_shared<PlanFlags>();
  auto format = std::make_shared<std::string>("table");
  auto explain = std::make_shared<bool>(false);
  CLI::App* plan = app.add_subcommand("plan", "Say which devices would form which group, without a cluster");
  plan->add_option("--topology", flags->topology,
                   "nvidia-smi topo -m text, NCCL topology XML or cluster YAML; each file is another host")
      ->required();
  plan->add_option("--gpu", flags->gpu, "chip, where the file does not name it: V100, A100, RTX3090, H100, ..");
  plan->add_option("--memory", flags->memory, "bytes of each device: one value for all, or one each, by commas");
  plan->add_option("--used", flags->used, "bytes that other processes use: one value for all, or one each");
  plan->add_option("--drained", flags->drained, "devices that may not be used: index, or host0/index, by commas");
  plan->add_option("--utilization", flags->utilization, "share of a device's memory that may be used")
      ->capture_default_str()
      ->check(CLI::Range(0.01, 1.0));
  plan->add_option("--model", flags->models,
                   "name=A,tp=2|auto,replicas=2,bytes=20GiB[,kv=4GiB][,hidden=4096][,layers=32][,priority=0]")
      ->required()
      ->allow_extra_args(false);
  plan->add_option("-o,--output", *format, "table or json")->check(CLI::IsMember({"table", "json"}));
  plan->add_flag("--explain", *explain, "what else was possible and what fell out");
  plan->callback([=, &context] { context.exit_code = RunPlan(*flags, *format == "json", *explain); });
}

}  // namespace tandem::client::ctl
