#include "client/ctl/plan_request.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "config/units.h"
#include "placement/files/read_topology.h"

namespace tandem::client::ctl {
namespace {

using placement::Demand;
using placement::Device;
using placement::ModelDemand;
using placement::Shape;
using placement::Topology;

constexpr int kMostRanks = 1024;
constexpr int kMostReplicas = 100'000;

absl::Status Bad(absl::string_view flag, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(flag, ": ", why));
}

std::string Count(size_t n, absl::string_view what) { return absl::StrCat(n, " ", what, n == 1 ? "" : "s"); }

std::vector<Device*> AllDevices(Topology& topology) {
  std::vector<Device*> devices;
  for (auto& host : topology.hosts) {
    for (Device& device : host.devices) devices.push_back(&device);
  }
  return devices;
}

// One value for all, or one for each.
absl::Status SetBytes(absl::string_view flag, const std::string& text, const std::vector<Device*>& devices,
                      int64_t Device::*field) {
  const std::vector<std::string> words = absl::StrSplit(text, ',');
  if (words.size() != 1 && words.size() != devices.size()) {
    return Bad(flag, absl::StrCat(Count(words.size(), "value"), " for ", Count(devices.size(), "device"),
                                  "; give one for all or one for each"));
  }
  for (size_t i = 0; i < devices.size(); ++i) {
    const auto bytes = config::ParseBytes(words.size() == 1 ? words[0] : words[i]);
    if (!bytes.ok()) return Bad(flag, bytes.status().message());
    devices[i]->*field = static_cast<int64_t>(*bytes);
  }
  return absl::OkStatus();
}

absl::Status SetMemory(const PlanFlags& flags, Topology& topology) {
  const std::vector<Device*> devices = AllDevices(topology);
  if (!flags.memory.empty()) {
    if (absl::Status status = SetBytes("--memory", flags.memory, devices, &Device::memory_total); !status.ok()) {
      return status;
    }
  }
  if (!flags.used.empty()) {
    if (absl::Status status = SetBytes("--used", flags.used, devices, &Device::memory_used); !status.ok())
      return status;
  }
  for (Device* device : devices) {
    if (device->memory_total == 0) device->memory_total = device->chip->memory_bytes;
    if (device->memory_total == 0) {
      return Bad("--memory", absl::StrCat("not given, and ", device->name, " (", device->chip->name,
                                          ") comes in several sizes; say --memory 80GiB"));
    }
    if (device->memory_used > device->memory_total) {
      return Bad("--used",
                 absl::StrCat(device->memory_used, " bytes of ", device->name, ", which has ", device->memory_total));
    }
  }
  return absl::OkStatus();
}

absl::Status SetStates(const PlanFlags& flags, const Topology& topology, Demand& demand) {
  std::map<std::string, placement::DeviceRef> names;
  size_t devices = 0;
  for (size_t h = 0; h < topology.hosts.size(); ++h) {
    auto& states = demand.states.emplace_back();
    for (int d = 0; d < topology.hosts[h].size(); ++d) {
      const Device& device = topology.hosts[h].devices[d];
      const placement::DeviceRef ref{static_cast<int>(h), d};
      names[device.name] = ref;
      if (topology.hosts.size() == 1) names[absl::StrCat(d)] = ref;
      states.push_back({placement::Block::kNone,
                        static_cast<int64_t>(flags.utilization * static_cast<double>(device.memory_total))});
      ++devices;
    }
  }
  for (const absl::string_view name : absl::StrSplit(flags.drained, ',', absl::SkipWhitespace())) {
    const auto found = names.find(std::string(absl::StripAsciiWhitespace(name)));
    if (found == names.end()) {
      return Bad("--drained",
                 absl::StrCat("\"", name.substr(0, 64), "\" is none of the ", Count(devices, "device"),
                              topology.hosts.size() == 1 ? "; give an index, 0 to " : "; give host/index, as ",
                              topology.hosts.size() == 1 ? absl::StrCat(devices - 1)
                                                         : topology.hosts.back().devices.front().name));
    }
    demand.states[found->second.host][found->second.device].block = placement::Block::kDraining;
  }
  return absl::OkStatus();
}

// ---- models
// -----------------------------------------------------------------------------------------------------------

struct ModelText {
  std::map<std::string, std::string> values;
  std::string where;  // "--model name=A,.."

  absl::StatusOr<int64_t> Bytes(const char* key) const {
    const auto it = values.find(key);
    if (it == values.end()) return int64_t{0};
    const auto bytes = config::ParseBytes(it->second);
    if (!bytes.ok()) return Bad(absl::StrCat(where, ": ", key), bytes.status().message());
    return static_cast<int64_t>(*bytes);
  }
  absl::StatusOr<int64_t> Number(const char* key, int64_t absent, int64_t least, int64_t most) const {
    const auto it = values.find(key);
    if (it == values.end()) return absent;
    const auto number = config::ParseInteger(it->second, least, most);
    if (!number.ok()) return Bad(absl::StrCat(where, ": ", key), number.status().message());
    return *number;
  }
};

absl::StatusOr<ModelText> SplitModel(const std::string& text) {
  static constexpr absl::string_view kKeys[] = {"name", "tp",     "replicas", "bytes",
                                                "kv",   "hidden", "layers",   "priority"};
  ModelText model;
  model.where = absl::StrCat("--model ", text.substr(0, 64));
  for (const absl::string_view word : absl::StrSplit(text, ',')) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(word, absl::MaxSplits('=', 1));
    if (std::find(std::begin(kKeys), std::end(kKeys), pair.first) == std::end(kKeys) || pair.second.empty()) {
      return Bad(model.where,
                 absl::StrCat("\"", word.substr(0, 64),
                              "\"; expected name=, tp=, replicas=, bytes=, kv=, hidden=, layers= or priority="));
    }
    if (!model.values.insert(pair).second) return Bad(model.where, absl::StrCat(pair.first, " is given twice"));
  }
  for (const char* needed : {"name", "bytes"}) {
    if (model.values.count(needed) == 0) return Bad(model.where, absl::StrCat(needed, "= is missing"));
  }
  return model;
}

int64_t Share(int64_t bytes, int64_t ranks) { return bytes / ranks + (bytes % ranks != 0); }

absl::StatusOr<ModelDemand> ReadModel(const std::string& text, const Topology& topology) {
  const auto split = SplitModel(text);
  if (!split.ok()) return split.status();
  ModelDemand model;
  model.name = split->values.at("name");
  const auto bytes = split->Bytes("bytes");
  if (!bytes.ok()) return bytes.status();
  if (*bytes == 0) return Bad(split->where, "bytes=0; give the size of the weights");
  const auto kv = split->Bytes("kv");
  if (!kv.ok()) return kv.status();
  const auto replicas = split->Number("replicas", 1, 1, kMostReplicas);
  if (!replicas.ok()) return replicas.status();
  const auto hidden = split->Number("hidden", model.workload.hidden, 1, 1 << 20);
  if (!hidden.ok()) return hidden.status();
  const auto layers = split->Number("layers", model.workload.layers, 1, 10'000);
  if (!layers.ok()) return layers.status();
  const auto priority = split->Number("priority", 0, -100, 100);
  if (!priority.ok()) return priority.status();
  model.replicas = static_cast<int>(*replicas);
  model.priority = static_cast<int>(*priority);
  model.workload.hidden = static_cast<int>(*hidden);
  model.workload.layers = static_cast<int>(*layers);

  std::vector<int64_t> degrees;
  const auto tp = split->values.find("tp");
  if (tp != split->values.end() && tp->second == "auto") {
    size_t most = 1;
    for (const auto& host : topology.hosts) most = std::max(most, host.devices.size());
    for (size_t degree = 1; degree <= most; degree *= 2) degrees.push_back(static_cast<int64_t>(degree));
  } else {
    const auto degree = split->Number("tp", 1, 1, kMostRanks);
    if (!degree.ok()) return degree.status();
    degrees.push_back(*degree);
  }
  for (const int64_t degree : degrees) {
    Shape shape;
    shape.ranks = static_cast<int>(degree);
    shape.fixed_bytes = Share(*bytes, degree);
    shape.kv_min_bytes = Share(*kv, degree);
    model.shapes.push_back(std::move(shape));
  }
  return model;
}

}  // namespace

absl::StatusOr<PlanRequest> ReadPlanRequest(const PlanFlags& flags) {
  PlanRequest request;
  request.demand.most_evaluations = placement::kSearchWithinSeconds;  // nobody's requests wait for it
  for (const std::string& file : flags.topology) {
    placement::ReadOptions options;
    options.gpu = flags.gpu;
    auto hosts = placement::ReadTopologyFile(file, options);
    if (!hosts.ok()) return hosts.status();
    for (placement::Host& host : *hosts) request.topology.hosts.push_back(std::move(host));
  }
  placement::NumberHosts(request.topology.hosts);
  if (absl::Status status = SetMemory(flags, request.topology); !status.ok()) return status;
  if (absl::Status status = SetStates(flags, request.topology, request.demand); !status.ok()) return status;
  for (const std::string& text : flags.models) {
    auto model = ReadModel(text, request.topology);
    if (!model.ok()) return model.status();
    for (const ModelDemand& other : request.demand.models) {
      if (other.name == model->name) return Bad("--model", absl::StrCat("two models are called ", model->name));
    }
    request.demand.models.push_back(*std::move(model));
  }
  return request;
}

}  // namespace tandem::client::ctl
