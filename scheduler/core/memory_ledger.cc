#include "scheduler/core/memory_ledger.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

constexpr Bytes kNothing{0};

// Two decimals: one would hide the differences that this file is about.
std::string Precisely(Bytes bytes) {
  if (bytes.value < int64_t{1} << 30) return absl::StrFormat("%.2f MiB", static_cast<double>(bytes.value) / (1 << 20));
  return absl::StrFormat("%.2f GiB", static_cast<double>(bytes.value) / (1 << 30));
}

std::string Percent(Bytes estimated, Bytes measured) {
  if (estimated <= kNothing) return "no formula";
  const double share = static_cast<double>((measured - estimated).value) / static_cast<double>(estimated.value);
  return absl::StrFormat("%+.1f %%", 100 * share);
}

}  // namespace

Bytes EstimatedStatic(const ModelSpec& spec, int tensor_parallel, int rank, const std::string& kind) {
  for (const ShardCost& of_degree : spec.costs) {
    if (of_degree.tensor_parallel != tensor_parallel) continue;
    const KindCost cost = of_degree.On(kind);
    return rank > 0 && cost.static_others > kNothing ? cost.static_others : cost.static_bytes;
  }
  return kNothing;
}

Bytes PlannedStatic(const Model& model, int tensor_parallel, int rank, const std::string& kind) {
  Bytes planned = EstimatedStatic(model.spec, tensor_parallel, rank, kind);
  for (const LearnedMemory& learned : model.learned) {
    if (learned.tensor_parallel == tensor_parallel && learned.kind == kind) {
      planned += learned.measured - learned.estimated;
    }
  }
  return std::max(kNothing, planned);
}

std::vector<std::string> KindsOf(const ClusterState& state) {
  std::vector<std::string> kinds;
  for (const Device& device : state.devices) {
    const std::string& kind = device.spec.kind;
    if (!kinds.empty() && kinds.back() == kind) continue;  // neighbours are of one kind nearly always
    const auto known = std::find(kinds.begin(), kinds.end(), kind);
    if (known == kinds.end()) {
      kinds.push_back(kind);
    } else {
      std::iter_swap(known, kinds.end() - 1);
    }
  }
  if (kinds.empty()) kinds.emplace_back();
  return kinds;
}

Bytes PlannedStatic(const std::vector<std::string>& kinds, const Model& model, int tensor_parallel) {
  Bytes most = kNothing;
  for (const std::string& kind : kinds) most = std::max(most, PlannedStatic(model, tensor_parallel, 0, kind));
  return most;
}

Bytes PlannedKvPerToken(const std::vector<std::string>& kinds, const ShardCost& cost) {
  Bytes most = kNothing;
  for (const std::string& kind : kinds) most = std::max(most, cost.On(kind).kv_bytes_per_token);
  return most;
}

void TakeMeasurement(ClusterState& state, const Group& group, Member& member, Bytes measured) {
  member.measured = measured;
  if (measured <= kNothing || member.estimated <= kNothing) return;
  Model& model = state.At(group.model);
  const int degree = static_cast<int>(group.members.size());
  const std::string& kind = state.At(member.device).spec.kind;
  const auto known = std::find_if(model.learned.begin(), model.learned.end(), [&](const LearnedMemory& learned) {
    return learned.tensor_parallel == degree && learned.kind == kind;
  });
  LearnedMemory& learned = known == model.learned.end() ? model.learned.emplace_back() : *known;
  const bool same_load = learned.group == group.id;
  if (same_load && measured - member.estimated <= learned.measured - learned.estimated) return;
  learned = {degree, kind, group.id, member.estimated, measured};
}

Bytes HeldBy(const Group& group, const Member& member) {
  const Bytes kv = group.ready_at == kNever ? group.kv_target : group.kv_bytes;
  return (member.measured > kNothing ? member.measured : member.planned) + kv;
}

Bytes MemoryOurs(const ClusterState& state, const Device& device) {
  Bytes total;
  for (GroupId id : device.groups) {
    const Group& group = *state.Find(id);
    for (const Member& member : group.members) {
      if (member.device == device.id) total += HeldBy(group, member);
    }
  }
  return total;
}

Bytes FreeToUse(const ClusterState& state, const Device& device) {
  Bytes free = device.memory_free - std::max(kNothing, device.spec.memory_total - device.spec.memory_budget);
  Bytes rest = device.spec.memory_budget;
  for (GroupId id : device.groups) {
    const Group& group = *state.Find(id);
    for (const Member& member : group.members) {
      if (member.device != device.id || member.out) continue;
      rest -= HeldBy(group, member);
      if (!member.counted) free -= HeldBy(group, member);
    }
  }
  return std::max(kNothing, std::min(free, rest));
}

void CountLoaded(ClusterState& state, Device& device) {
  if (!device.uncounted) return;
  device.uncounted = false;
  for (GroupId id : device.groups) {
    for (Member& member : state.Find(id)->members) {
      if (member.device == device.id) member.counted = member.loaded;
    }
  }
}

int LoadedPercent(const ClusterState& state, const Group& group) {
  int64_t least = 100;
  for (const Member& member : group.members) {
    if (member.loaded) continue;
    if (member.planned <= kNothing) return -1;
    const Bytes grown = state.At(member.device).memory_process - member.held_before;
    least = std::min(least, std::clamp<int64_t>(grown.value / std::max<int64_t>(1, member.planned.value / 100), 0, 99));
  }
  return static_cast<int>(least);
}

Bytes ForeignMemory(const Device& device) {
  if (device.state == DeviceState::kLost) return kNothing;  // nobody is there to say
  return std::max(kNothing, device.spec.memory_total - device.memory_free - device.memory_process);
}

std::string ShortOfMemory(const ClusterState& state, const Device& device, Bytes needed) {
  const std::string name = Name(state, device.id);
  std::string text = absl::StrCat(name, ": ", Words(FreeToUse(state, device)), " free, needs ", Words(needed));
  const Bytes foreign = ForeignMemory(device);
  if (foreign > kNothing) absl::StrAppend(&text, "; ", Words(foreign), " of ", name, " are used by other processes");
  return text;
}

std::string EstimateAgainstMeasurement(Bytes estimated, Bytes measured) {
  const std::string text = absl::StrCat(Precisely(estimated), " by the formula, ");
  if (measured <= kNothing) return absl::StrCat(text, "not measured");
  return absl::StrCat(text, Precisely(measured), " measured (", Percent(estimated, measured), ")");
}

std::string DescribeLearned(const LearnedMemory& learned) {
  return absl::StrCat("tp=", learned.tensor_parallel, ": formula ", Precisely(learned.estimated), ", measured ",
                      Precisely(learned.measured), " on ", learned.kind, " (",
                      Percent(learned.estimated, learned.measured), "), planned with ", Precisely(learned.measured));
}

}  // namespace tandem::core
