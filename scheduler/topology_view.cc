#include "scheduler/topology_view.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "placement/topology/topology.h"
#include "scheduler/row_messages.h"

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
std::vector<std::string> Conflicts(const NodeRow& node, const Labels& labels) {
  placement::Host host;
  host.name = node.name;
  const size_t n = std::min<size_t>(node.ends.size(), placement::kMostDevicesOfHost);
  host.links.resize(n * n);
  bool cpu_only = true;
  for (size_t i = 0; i < n; ++i) {
    const core::DeviceSpec& spec = node.ends[i].spec;
    placement::Device& device = host.devices.emplace_back();
    device.name = spec.Name();
    const placement::Chip* chip = spec.kind == "cpu" ? &placement::CpuChip() : placement::FindChip(spec.model);
    if (chip != nullptr) device.chip = chip;
    cpu_only &= spec.kind == "cpu";
    host.link(i, i).kind = PathKind::kSelf;
  }
  for (const LinkRow& known : node.links) {
    for (const auto& [i, j] : {std::pair(known.a, known.b), std::pair(known.b, known.a)}) {
      if (std::max(i, j) >= n) continue;
      const v1::LinkFacts* facts = Find(labels, node.ends[i].spec, node.ends[j].spec);
      if (facts == nullptr) continue;
      placement::Link& link = host.link(i, j);
      link.kind = placement::PathKindOf(facts->kind()).value_or(PathKind::kSys);
      link.nvlinks = static_cast<int>(std::min<uint32_t>(facts->nvlinks(), 1024));
      link.measured = {known.record.bytes_per_second / 1000000, known.record.small_ns};
      // What host memory gives depends on the host alone; its label promises an order, not a rate.
      if (cpu_only) link.mbps = link.measured.mbps;
    }
  }
  if (!cpu_only) placement::Complete(host);
  return placement::LinkConflicts(host);
}

void FillLink(const EndRow& a, const EndRow& b, const core::LinkRecord* known, const Labels& labels, core::Instant now,
              v1::TopologyLink& link) {
  link.set_a(a.spec.Name());
  link.set_b(b.spec.Name());
  const v1::LinkFacts* facts = Find(labels, a.spec, b.spec);
  link.set_label(facts == nullptr ? "same-host" : LabelOf(*facts));
  link.set_source(facts == nullptr ? "default" : facts->source().substr(0, kMostLabelBytes));
  if (IsNvLink(link.label()) && !(a.trusts_links && b.trusts_links)) {
    link.set_source(absl::StrCat(link.source(), ", not trusted"));
  }
  if (known == nullptr) return;
  link.set_not_measured(known->why_not);
  if (known->measured_at == core::kNever) return;
  link.set_source("measured");
  link.set_bandwidth_bytes_per_s(known->bytes_per_second);
  link.set_small_message_ns(known->small_ns);
  link.set_measured_age_ms(std::max<int64_t>(0, (now - known->measured_at).us) / 1000);
}

}  // namespace

void FillTopology(const std::vector<DeviceRow>& devices, const std::vector<NodeRow>& nodes,
                  const WorkerRegistry& registry, core::Instant now, v1::GetTopologyResponse* response) {
  const Labels labels = LabelsOf(registry);
  for (const DeviceRow& device : devices) *response->add_devices() = DeviceFrom(device);
  for (const NodeRow& node : nodes) {
    auto known = node.links.begin();  // in the order of pairs
    for (size_t i = 0; i < node.ends.size(); ++i) {
      for (size_t j = i + 1; j < node.ends.size(); ++j) {
        const bool here = known != node.links.end() && known->a == i && known->b == j;
        FillLink(node.ends[i], node.ends[j], here ? &known->record : nullptr, labels, now, *response->add_links());
        if (here) ++known;
      }
    }
    for (std::string& conflict : Conflicts(node, labels)) *response->add_conflicts() = std::move(conflict);
  }
}

}  // namespace tandem::scheduler
