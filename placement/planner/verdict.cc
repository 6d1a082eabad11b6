#include "placement/planner/verdict.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "placement/planner/across.h"
#include "placement/planner/planner.h"
#include "placement/planner/sharing.h"

namespace tandem::placement {
namespace {

constexpr size_t kMostExamples = 16;

Exclusion ExclusionOf(Block block) {
  switch (block) {
    case Block::kLost:
      return Exclusion::kLost;
    case Block::kSuspect:
      return Exclusion::kSuspect;
    case Block::kDraining:
      return Exclusion::kDraining;
    case Block::kCordoned:
      return Exclusion::kCordoned;
    case Block::kNone:
    case Block::kBusy:
      return Exclusion::kBusy;
  }
  return Exclusion::kBusy;
}

// What groups hold, and the least that they need, as a replica of the model sees it: where all of its replicas are
// placed, the new ones of its own stand in nobody's way.
class Taken {
 public:
  static constexpr int64_t kNobody = -1;

  Taken(const Topology& topology, const Demand& demand, const Plan& plan, int model) {
    size_t devices = 0;
    for (const Host& host : topology.hosts) {
      first_.push_back(devices);
      devices += host.devices.size();
    }
    least_.assign(devices, kNobody);
    const bool placed = std::none_of(plan.unplaced.begin(), plan.unplaced.end(),
                                     [&](const UnplacedReplica& replica) { return replica.model == model; });
    for (const PlannedGroup& group : plan.groups) {
      if (placed && group.model == model && group.kept < 0) continue;
      Add(group.devices, group.shape < 0 ? 0 : demand.models[group.model].shapes[group.shape].Least());
    }
    for (const ExistingGroup& group : demand.existing) {
      if (!group.counts) Add(group.devices, 0);
    }
  }

  // The least that all on the device need together; kNobody where there is none.
  int64_t On(DeviceRef ref) const { return least_[first_[ref.host] + ref.device]; }

 private:
  void Add(const std::vector<DeviceRef>& devices, int64_t bytes) {
    for (const DeviceRef& ref : devices) {
      int64_t& least = least_[first_[ref.host] + ref.device];
      least = std::max<int64_t>(least, 0) + bytes;
    }
  }

  std::vector<size_t> first_;   // by host
  std::vector<int64_t> least_;  // by device, host after host
};

struct Sift {
  bool ever = false;     // some host has enough devices that are large enough
  int most_large = 0;    // of one host
  int most_devices = 0;  // of one host
  int64_t largest = 0;   // cap of any device
  int fallen[kExclusions] = {};
  std::vector<ExcludedDevice> examples;
};

Sift SiftDevices(const Topology& topology, const Demand& demand, const Taken& taken, int model, const Shape& shape) {
  Sift sift;
  std::vector<int> large_of_host;
  for (int h = 0; h < static_cast<int>(topology.hosts.size()); ++h) {
    int large = 0;
    for (int d = 0; d < topology.hosts[h].size(); ++d) {
      const DeviceRef ref{h, d};
      const int64_t cap = CapBytes(topology, demand, model, ref);
      sift.largest = std::max(sift.largest, cap);
      const int64_t held = taken.On(ref);
      const int64_t left = std::min(cap, AvailableBytes(topology, demand, ref)) - std::max<int64_t>(held, 0);
      const Block block = BlockOf(demand, ref);
      ExcludedDevice out{ref, Exclusion::kTooSmall, cap, shape.Least()};
      if (cap >= shape.Least()) {
        ++large;
        if (block != Block::kNone) {
          out.why = ExclusionOf(block);
        } else if (held != Taken::kNobody && (shape.ranks > 1 || left < shape.Least())) {
          out.why = Exclusion::kBusy;
        } else if (left < shape.Least()) {
          out.why = Exclusion::kMemoryTaken;
          out.has_bytes = left;
        } else {
          continue;
        }
      }
      ++sift.fallen[static_cast<int>(out.why)];
      if (sift.examples.size() < kMostExamples) sift.examples.push_back(out);
    }
    large_of_host.push_back(large);
    sift.most_large = std::max(sift.most_large, large);
    sift.most_devices = std::max(sift.most_devices, topology.hosts[h].size());
  }
  const bool spans = demand.across_hosts && sift.most_devices < shape.ranks && CouldSpan(large_of_host, shape.ranks);
  sift.ever = sift.most_large >= shape.ranks || spans;
  return sift;
}

std::string Needs(const Shape& shape) {
  return absl::StrCat(shape.ranks, shape.ranks == 1 ? " device with " : " devices of one host with ",
                      GiB(shape.Least()), shape.ranks == 1 ? "" : " each", " (", GiB(shape.fixed_bytes), " weights + ",
                      GiB(shape.kv_min_bytes), " KV)");
}

std::string Fallen(const Topology& topology, const Sift& sift) {
  std::vector<std::string> parts;
  for (int i = 0; i < kExclusions; ++i) {
    if (sift.fallen[i] > 0) parts.push_back(absl::StrCat(sift.fallen[i], " ", Word(static_cast<Exclusion>(i))));
  }
  std::vector<std::string> names;
  for (const ExcludedDevice& out : sift.examples) {
    if (names.size() == 4) break;
    const std::string& name = topology.hosts[out.device.host].devices[out.device.device].name;
    const bool memory = out.why == Exclusion::kTooSmall || out.why == Exclusion::kMemoryTaken;
    names.push_back(memory ? absl::StrCat(name, " has ", GiB(out.has_bytes)) : absl::StrCat(name, " ", Word(out.why)));
  }
  if (parts.empty()) return "no set of free devices is large enough on one host";
  return absl::StrCat(absl::StrJoin(parts, ", "), " (", absl::StrJoin(names, ", "), ")");
}

std::string Never(const Shape& shape, const Sift& sift) {
  if (sift.most_devices < shape.ranks) {
    return absl::StrCat("the largest host has ", sift.most_devices, sift.most_devices == 1 ? " device" : " devices");
  }
  return absl::StrCat("the largest device has ", GiB(sift.largest), " for it, and at most ", sift.most_large,
                      " devices of one host have enough");
}

}  // namespace

const char* Word(Exclusion exclusion) {
  switch (exclusion) {
    case Exclusion::kTooSmall:
      return "TOO_SMALL";
    case Exclusion::kLost:
      return "LOST";
    case Exclusion::kSuspect:
      return "SUSPECT";
    case Exclusion::kDraining:
      return "DRAINING";
    case Exclusion::kCordoned:
      return "CORDONED";
    case Exclusion::kBusy:
      return "BUSY";
    case Exclusion::kMemoryTaken:
      return "MEMORY_TAKEN";
  }
  return "";
}

std::string GiB(int64_t bytes) {
  if (bytes != 0 && bytes < (int64_t{1} << 30) / 10) {
    return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  }
  return absl::StrFormat("%.1f GiB", static_cast<double>(bytes) / (1 << 30));
}

void Explain(const Topology& topology, const Demand& demand, const std::vector<int>& choice, Plan& plan) {
  for (size_t m = 0; m < demand.models.size(); ++m) {
    const Taken taken(topology, demand, plan, static_cast<int>(m));
    const ModelDemand& model = demand.models[m];
    ModelReport& report = plan.reports[m];
    Fit fit = Fit::kNever;
    std::string never = absl::StrCat(model.name, " has no tensor-parallel degree that is possible"), later;
    for (size_t s = 0; s < model.shapes.size(); ++s) {
      const Shape& shape = model.shapes[s];
      if (!shape.impossible.empty()) {
        report.degrees.push_back(absl::StrCat("tp=", shape.ranks, ": ", shape.impossible));
        never = absl::StrCat(model.name, " at ", report.degrees.back());
        continue;
      }
      const Sift sift = SiftDevices(topology, demand, taken, static_cast<int>(m), shape);
      const bool chosen = choice[m] == static_cast<int>(s);
      if (chosen) {
        std::copy(std::begin(sift.fallen), std::end(sift.fallen), report.excluded);
        report.examples = sift.examples;
      }
      report.degrees.push_back(absl::StrCat("tp=", shape.ranks, ": ", GiB(shape.Least()), " per device, ",
                                            !sift.ever ? absl::StrCat("never: ", Never(shape, sift))
                                            : chosen   ? "taken"
                                                       : "not taken"));
      if (sift.ever) {
        if (fit == Fit::kNever || chosen)
          later = absl::StrCat(model.name, " needs ", Needs(shape), "; fell out: ", Fallen(topology, sift));
        fit = Fit::kLater;
      } else if (fit == Fit::kNever) {
        never = absl::StrCat(model.name, " needs ", Needs(shape), "; ", Never(shape, sift));
      }
    }
    for (UnplacedReplica& replica : plan.unplaced) {
      if (replica.model != static_cast<int>(m)) continue;
      replica.fit = fit;
      replica.reason = fit == Fit::kNever ? never : later;
    }
  }
}

std::string DescribeRing(const PlannedGroup& group) {
  if (group.devices.size() < 2) return "";
  const bool best = group.communication_ns <= group.best_ns || group.best_ns == 0;
  return absl::StrCat(absl::StrFormat(": %.1f GB/s, narrowest at ", static_cast<double>(group.ring.mbps) / 1000),
                      group.ring.bottleneck, "; ", group.communication_ns / 1000, " us of collectives per token, ",
                      best ? "the best that any set of this size has"
                           : absl::StrFormat("%.2fx the best set's", static_cast<double>(group.communication_ns) /
                                                                         static_cast<double>(group.best_ns)));
}

std::string Describe(const Topology& topology, const Demand& demand, const PlannedGroup& group) {
  std::vector<std::string> names;
  for (const DeviceRef& ref : group.devices) names.push_back(topology.hosts[ref.host].devices[ref.device].name);
  std::string text =
      absl::StrCat(demand.models[group.model].name, "/", group.replica, " on ", absl::StrJoin(names, ", "));
  absl::StrAppend(&text, DescribeRing(group));
  absl::StrAppend(&text, "; ", GiB(group.kv_bytes), " KV per rank");
  return text;
}

}  // namespace tandem::placement
