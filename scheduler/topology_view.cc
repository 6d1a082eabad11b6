#include "scheduler/topology_view.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "placement/topology/topology.h"
#include "scheduler/core/health.h"
#include "scheduler/translate.h"

namespace tandem::scheduler {
namespace {

using placement::PathKind;

constexpr size_t kMostLabelBytes = 32;

// By uuid of both ends, as the first one said it.
using Labels = std::map<std::pair<std::string, std::string>, v1::LinkFacts>;

Labels LabelsOf(const WorkerRegistry& registry) {
  Labels labels;
  for (const auto& link : registry.All()) {
    const v1::DeviceFacts& device = link->hello().device();
    for (const v1::LinkFacts& facts : device.links()) {
      if (!facts.kind().empty()) labels.emplace(std::pair(device.uuid(), facts.peer_uuid()), facts);
    }
  }
  return labels;
}

const v1::LinkFacts* Find(const Labels& labels, const core::DeviceSpec& a, const core::DeviceSpec& b) {
  auto it = labels.find({a.uuid, b.uuid});
  if (it == labels.end()) it = labels.find({b.uuid, a.uuid});
  return it == labels.end() ? nullptr : &it->second;
}

std::string LabelOf(const v1::LinkFacts& facts) {
  const bool counted = facts.kind() == placement::Word(PathKind::kNvLink);
  return absl::StrCat(facts.kind().substr(0, kMostLabelBytes), counted ? absl::StrCat(facts.nvlinks()) : "");
}

bool IsNvLink(absl::string_view label) { return absl::StartsWith(label, placement::Word(PathKind::kNvLink)); }

// The node as the planner sees it, as far as labels and figures go.
std::vector<std::string> Conflicts(const core::ClusterState& state, const core::Node& node, const Labels& labels) {
  placement::Host host;
  host.name = node.name;
  const size_t n = std::min<size_t>(node.devices.size(), placement::kMostDevicesOfHost);
  host.links.resize(n * n);
  bool cpu_only = true;
  for (size_t i = 0; i < n; ++i) {
    const core::DeviceSpec& spec = state.At(node.devices[i]).spec;
    placement::Device& device = host.devices.emplace_back();
    device.name = spec.Name();
    const placement::Chip* chip = spec.kind == "cpu" ? &placement::CpuChip() : placement::FindChip(spec.model);
    if (chip != nullptr) device.chip = chip;
    cpu_only &= spec.kind == "cpu";
    host.link(i, i).kind = PathKind::kSelf;
  }
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      const auto record = state.links.find(std::minmax(node.devices[i], node.devices[j]));
      const v1::LinkFacts* facts = Find(labels, state.At(node.devices[i]).spec, state.At(node.devices[j]).spec);
      if (i == j || record == state.links.end() || facts == nullptr) continue;
      placement::Link& link = host.link(i, j);
      link.kind = placement::PathKindOf(facts->kind()).value_or(PathKind::kSys);
      link.nvlinks = static_cast<int>(std::min<uint32_t>(facts->nvlinks(), 1024));
      link.measured = {record->second.bytes_per_second / 1000000, record->second.small_ns};
      // What host memory gives depends on the host alone; its label promises an order, not a rate.
      if (cpu_only) link.mbps = link.measured.mbps;
    }
  }
  if (!cpu_only) placement::Complete(host);
  return placement::LinkConflicts(host);
}

}  // namespace

void FillTopology(const core::ClusterState& state, const WorkerRegistry& registry, core::Instant now,
                  v1::GetTopologyResponse* response) {
  const Labels labels = LabelsOf(registry);
  for (const core::Device& device : state.devices) *response->add_devices() = DeviceFrom(state, device);
  for (const core::Node& node : state.nodes) {
    for (size_t i = 0; i < node.devices.size(); ++i) {
      for (size_t j = i + 1; j < node.devices.size(); ++j) {
        const core::DeviceSpec& a = state.At(node.devices[i]).spec;
        const core::DeviceSpec& b = state.At(node.devices[j]).spec;
        v1::TopologyLink& link = *response->add_links();
        link.set_a(a.Name());
        link.set_b(b.Name());
        const v1::LinkFacts* facts = Find(labels, a, b);
        link.set_label(facts == nullptr ? "same-host" : LabelOf(*facts));
        link.set_source(facts == nullptr ? "default" : facts->source().substr(0, kMostLabelBytes));
        if (IsNvLink(link.label()) &&
            !(core::TrustsLinks(state.At(node.devices[i])) && core::TrustsLinks(state.At(node.devices[j])))) {
          link.set_source(absl::StrCat(link.source(), ", not trusted"));
        }
        const auto record = state.links.find({node.devices[i], node.devices[j]});
        if (record == state.links.end()) continue;
        const core::LinkRecord& found = record->second;
        link.set_not_measured(found.why_not);
        if (found.measured_at == core::kNever) continue;
        link.set_source("measured");
        link.set_bandwidth_bytes_per_s(found.bytes_per_second);
        link.set_small_message_ns(found.small_ns);
        link.set_measured_age_ms(std::max<int64_t>(0, (now - found.measured_at).us) / 1000);
      }
    }
    for (std::string& conflict : Conflicts(state, node, labels)) *response->add_conflicts() = std::move(conflict);
  }
}

}  // namespace tandem::scheduler
