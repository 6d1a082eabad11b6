#include "client/ctl/up_plan.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <map>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/ctl/gpus.h"
#include "config/dial_flags.h"
#include "config/endpoint.h"
#include "config/security_rules.h"

namespace tandem::client::ctl {
namespace {

// In the order of their end: who takes requests in first, workers while somebody listens to their goodbye.
constexpr int kGatewayStage = 0, kWorkersStage = 1, kSchedulerStage = 2;
// For a driver that has to wake GPUs first, on a busy machine.
constexpr absl::Duration kGpusAnswer = absl::Seconds(30);

absl::StatusOr<std::string> Program(const std::string& bin, const char* name) {
  const std::string path = (std::filesystem::path(bin) / name).string();
  if (access(path.c_str(), X_OK) == 0) return path;
  return absl::UnknownError(absl::StrCat(name, " is not beside tandemctl in ", bin, "; build it first"));
}

// All means the GPUs, and the cores only where there are none: a model that fits both should not land on the slower.
std::vector<std::string> ChooseDevices(const config::DevicesConfig& devices, const std::string& worker, int cores,
                                       std::vector<std::string>& notes) {
  if (!devices.select.empty()) return devices.select;
  const Gpus gpus = AskForGpus(worker, {.most = kGpusAnswer, .slow = [] {
                                          std::cerr << "up: waiting for the GPU driver to say which GPUs there are\n";
                                        }});
  if (!gpus.devices.empty()) {
    notes.push_back(absl::StrCat("devices.select is all: using ", absl::StrJoin(gpus.devices, ", ")));
    return gpus.devices;
  }
  std::vector<std::string> chosen = {"cpu:0"};
  if (cores >= 2) chosen.push_back("cpu:1");
  notes.push_back(absl::StrCat("devices.select is all, and there is no GPU",
                               gpus.why_none.empty() ? "" : absl::StrCat(" (", gpus.why_none, ")"), ": using ",
                               absl::StrJoin(chosen, ", "), " of ", cores, " cores"));
  return chosen;
}

bool IsCpu(absl::string_view device) { return absl::StartsWith(device, "cpu:"); }
bool IsSim(absl::string_view device) { return absl::StartsWith(device, "sim:"); }

// The number at the end of "cpu:1" or "sim:H100:1", if there is one.
std::optional<int> IndexOf(absl::string_view device) {
  int index = 0;
  if (!absl::SimpleAtoi(device.substr(device.rfind(':') + 1), &index)) return std::nullopt;
  return index;
}

absl::Status NumberDevices(std::vector<std::string>& devices) {
  std::map<int, std::string> owners;
  for (const std::string& device : devices) {
    const std::optional<int> index = IndexOf(device);
    if (!index) continue;
    const auto [owner, fresh] = owners.emplace(*index, device);
    if (!fresh) {
      return absl::InvalidArgumentError(absl::StrCat("devices.select: ", owner->second, " and ", device,
                                                     " have the same index; a node counts its devices through"));
    }
  }
  int next = 0;
  for (std::string& device : devices) {
    if (!IsSim(device) || IndexOf(device)) continue;  // a GPU by its uuid has the number that it has
    while (owners.contains(next)) ++next;
    absl::StrAppend(&device, ":", next);
    owners.emplace(next, device);
  }
  return absl::OkStatus();
}

// Children are told on their command lines what the flags of this program may have changed. A token is inherited.
void AddDialFlags(const security::DialSettings& dial, std::vector<std::string>& argv) {
  for (const config::DialFlag& flag : config::kDialFlags) {
    if ((dial.*flag.field).empty()) continue;
    argv.push_back(flag.flag);
    argv.push_back(dial.*flag.field);
  }
}

absl::Status CheckDial(const config::SecurityConfig& security) {
  for (const auto& [name, door] : {std::pair("workers", &security.workers), std::pair("clients", &security.clients),
                                   std::pair("admin", &security.admin)}) {
    if (door->encrypted() && !security.dial.encrypted()) {
      return absl::InvalidArgumentError(
          absl::StrCat("server.", name, " speaks TLS, but security.dial.ca does not say which CA to know it by: the ",
                       "programs of this machine could not dial it"));
    }
    if (door->client_certificates == "required" && security.dial.certificate.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("server.", name, " requires certificates, but there is no ",
                                                     "security.dial.certificate for the programs of this machine"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<UpPlan> PlanUp(const config::ClusterConfig& config, const std::string& config_path,
                              const std::string& bin, const std::string& node, int cores) {
  const auto scheduler = Program(bin, "tandem-scheduler");
  if (!scheduler.ok()) return scheduler.status();
  const auto worker = Program(bin, "tandem-worker");
  if (!worker.ok()) return worker.status();
  const auto workers_door = config::ParseEndpoint(config.server.workers);
  if (!workers_door.ok()) return workers_door.status();
  if (workers_door->port == 0) {
    return absl::InvalidArgumentError("server.workers: port 0 is any free port, which no worker could find");
  }
  if (const auto status = config::CheckServed(config); !status.ok()) return status;
  if (const auto status = CheckDial(config.security); !status.ok()) return status;
  const auto clients_door = config::ParseEndpoint(config.server.clients);
  if (!clients_door.ok()) return clients_door.status();
  const config::DevicesConfig& devices = config.devices;

  UpPlan plan;
  plan.devices = ChooseDevices(devices, *worker, cores, plan.notes);
  if (const auto status = NumberDevices(plan.devices); !status.ok()) return status;
  const auto cpu_devices =
      std::count_if(plan.devices.begin(), plan.devices.end(), [](const std::string& device) { return IsCpu(device); });

  ChildSpec spec{"scheduler", {*scheduler}, kSchedulerStage, /*essential=*/true, /*drains=*/true};
  const std::string grace = absl::FormatDuration(config.server.stop_grace);
  const auto flag = [&spec](const char* name, const std::string& value) {
    spec.argv.push_back(name);
    spec.argv.push_back(value);
  };
  if (!config_path.empty()) flag("--config", config_path);
  flag("--clients", config.server.clients);
  flag("--workers", config.server.workers);
  flag("--admin", config.server.admin);
  flag("--state-dir", config.state_dir);
  if (!config.model_root.empty()) flag("--model-root", config.model_root);
  flag("--metrics", config.server.metrics);
  if (config.log.format != "text") flag("--log-format", config.log.format);
  flag("--stop-grace", grace);
  plan.children.push_back(spec);

  if (const auto gateway = Program(bin, "tandem-gateway"); gateway.ok()) {
    plan.gateway = true;
    spec = ChildSpec{"gateway", {*gateway}, kGatewayStage, /*essential=*/true};
    if (!config_path.empty()) flag("--config", config_path);
    flag("--http", config.server.http);
    flag("--scheduler", clients_door->DialAddress());
    AddDialFlags(config.security.dial, spec.argv);
    flag("--stop-grace", grace);
    spec.argv.push_back("--die-with-parent");
    plan.children.push_back(spec);
  } else {
    plan.notes.push_back("HTTP is not served: tandem-gateway is not beside tandemctl; gRPC is");
  }

  for (const std::string& device : plan.devices) {
    spec = ChildSpec{"worker " + device, {*worker}, kWorkersStage, /*essential=*/false};
    if (!config_path.empty()) flag("--config", config_path);
    flag("--device", device);
    flag("--scheduler", workers_door->DialAddress());
    flag("--node", node);
    AddDialFlags(config.security.dial, spec.argv);
    if (!config.model_root.empty()) flag("--model-root", config.model_root);
    if (IsSim(device)) {
      if (devices.sim_memory_bytes != 0) flag("--sim-memory", absl::StrCat(devices.sim_memory_bytes));
      flag("--sim-speedup", absl::StrFormat("%.10g", devices.sim_speedup));
    } else if (IsCpu(device)) {
      flag("--cpu-devices", absl::StrCat(cpu_devices));
      if (devices.cpu_memory_bytes != 0) flag("--cpu-memory", absl::StrCat(devices.cpu_memory_bytes));
      if (devices.cpu_threads != 0) flag("--cpu-threads", absl::StrCat(devices.cpu_threads));
    }
    flag("--memory-utilization", absl::StrFormat("%.10g", devices.memory_utilization));
    if (devices.reserve_bytes != 0) flag("--reserve", absl::StrCat(devices.reserve_bytes));
    if (config.log.format != "text") flag("--log-format", config.log.format);
    spec.argv.push_back("--die-with-parent");
    plan.children.push_back(spec);
  }
  return plan;
}

}  // namespace tandem::client::ctl
