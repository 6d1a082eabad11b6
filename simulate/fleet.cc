#include "simulate/fleet.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "worker/exec/executor.h"

namespace tandem::simulate {
namespace {

constexpr core::Duration kSettles = core::Seconds(60);  // every timer that placement may wait for

core::CoreOptions Options() {
  core::CoreOptions options;
  options.link_probe = core::LinkProbing::kOff;  // the topology says what the links are
  options.move_gain_permille = 0;                // the groups are the same from the first request to the last
  return options;
}

core::DeviceSpec SpecOf(const placement::Host& host, int place, double utilization) {
  const auto uuid = [&](int i) { return absl::StrCat(host.name, "/", i); };
  const placement::Device& device = host.devices[static_cast<size_t>(place)];
  core::DeviceSpec spec;
  spec.node = host.name;
  spec.index = static_cast<uint32_t>(place);
  spec.kind = "cuda";
  spec.model = device.chip->name;
  spec.uuid = uuid(place);
  spec.numa_node = device.numa;
  spec.memory_total = {device.memory_total};
  spec.memory_free = {device.memory_total - device.memory_used};
  spec.memory_budget = {static_cast<int64_t>(utilization * static_cast<double>(device.memory_total))};
  for (int other = 0; other < host.size(); ++other) {
    if (other == place) continue;
    const placement::Link& link = host.link(place, other);
    spec.links.push_back({uuid(other), link.kind, link.nvlinks});
  }
  return spec;
}

}  // namespace

Fleet::Fleet(const placement::Topology& topology, const ServedModel& model, double utilization, int replicas)
    : topology_(topology), model_(model.spec), core_(Options()) {
  model_.replicas_min = model_.replicas_max = replicas;
  uint64_t number = 0;
  for (size_t h = 0; h < topology.hosts.size(); ++h) {
    const placement::Host& host = topology.hosts[h];
    for (int place = 0; place < host.size(); ++place) {
      FleetDevice device{.spec = SpecOf(host, place, utilization),
                         .incarnation = {++number, 1},
                         .host = static_cast<int>(h),
                         .place = place};
      device.free = device.spec.memory_free;
      devices_.push_back(std::move(device));
    }
  }
}

absl::StatusOr<std::unique_ptr<Fleet>> Fleet::Form(const placement::Topology& topology, const ServedModel& model,
                                                   double utilization, int replicas) {
  int devices = 0;
  for (const placement::Host& host : topology.hosts) {
    for (const placement::Device& device : host.devices) {
      ++devices;
      if (device.memory_total > 0) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "device ", device.name, " (", device.chip->name,
          ") comes with several sizes of memory; say which by memory: in the cluster file or by --memory"));
    }
  }
  // With more replicas than there is room for the core would look for room at every turn.
  const int asked = replicas > 0 ? replicas : devices;
  std::unique_ptr<Fleet> fleet(new Fleet(topology, model, utilization, asked));
  fleet->FormAll();
  const int formed = static_cast<int>(fleet->groups_.size());
  if (formed == 0 || formed < replicas) {
    const core::Model& placed = fleet->core_.state().models.front();
    return absl::FailedPreconditionError(absl::StrCat(
        formed, " of ", asked,
        " replicas have room: ", placed.report.sentence.empty() ? placed.waits_for : placed.report.sentence));
  }
  if (formed < asked) {
    fleet.reset(new Fleet(topology, model, utilization, formed));
    fleet->FormAll();
  }
  return fleet;
}

void Fleet::FormAll() {
  Tell(core::LeaderStarted{1, static_cast<int>(devices_.size())});
  Tell(core::ModelConfigured{model_});
  for (const FleetDevice& device : devices_) {
    core::WorkerAttached attached;
    attached.device = device.spec;
    attached.incarnation = device.incarnation;
    Tell(attached);
  }
  const core::Instant until = now_ + kSettles;
  while (true) {
    while (!answers_.empty()) {
      const core::Event event = std::move(answers_.front());
      answers_.pop_front();
      Tell(event);
    }
    const bool all = static_cast<int>(groups_.size()) == model_.replicas_min;
    const core::Instant next = core_.NextDeadline();
    // Silence is a lost worker, so nothing is waited for beyond the first look at devices.
    if (all || next >= std::min(until, core::Instant{1} + core_.state().options.suspect_after)) return;
    now_ = std::max(now_, next);
    Tell(core::Ticked{});
  }
}

void Fleet::Tell(const core::Event& event) {
  for (const core::Action& action : core_.Step(now_, event)) Obey(action);
}

void Fleet::Obey(const core::Action& action) {
  if (const auto* form = std::get_if<core::FormGroup>(&action)) {
    for (const core::DeviceId device : form->members) {
      answers_.push_back(core::GroupFormed{device, form->group, form->epoch});
    }
  } else if (const auto* load = std::get_if<core::LoadModel>(&action)) {
    Load(*load);
  }
}

void Fleet::Load(const core::LoadModel& action) {
  const auto cost = std::find_if(model_.costs.begin(), model_.costs.end(), [&](const core::ShardCost& one) {
    return one.tensor_parallel == static_cast<int>(action.members.size());
  });
  CHECK(cost != model_.costs.end());
  FleetGroup group{.id = action.group, .epoch = action.epoch, .members = action.members};
  const int64_t block_bytes = cost->kv_bytes_per_token.value * worker::kBlockTokens;
  group.kv_blocks = static_cast<int32_t>(action.kv_target.value / block_bytes);
  std::vector<int> places;
  for (size_t rank = 0; rank < action.members.size(); ++rank) {
    FleetDevice& device = devices_[action.members[rank].value];
    places.push_back(device.place);
    const core::Bytes fixed = rank == 0 ? cost->static_bytes : cost->static_others;
    device.process = fixed + core::Bytes{group.kv_blocks * block_bytes};
    device.free = device.spec.memory_free - device.process;
    answers_.push_back(core::ModelLoaded{action.members[rank], action.group, action.epoch, fixed});
  }
  const placement::Host& host = topology_.hosts[static_cast<size_t>(devices_[action.members[0].value].host)];
  group.chip = host.devices[static_cast<size_t>(places[0])].chip;
  group.ring = placement::BestRing(host, places);
  core::GroupReady ready;
  ready.device = action.members[0];
  ready.group = action.group;
  ready.epoch = action.epoch;
  ready.kv_blocks = group.kv_blocks;
  ready.max_sequences = model_.max_sequences;
  ready.max_model_len = model_.max_model_len;
  ready.kv_bytes = {group.kv_blocks * block_bytes};
  ready.numerics_id = absl::StrCat("sim/", group.chip->name, "/tp", action.members.size());
  answers_.push_back(ready);
  groups_.push_back(std::move(group));
}

}  // namespace tandem::simulate
