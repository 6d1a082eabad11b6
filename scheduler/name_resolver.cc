#include "scheduler/name_resolver.h"

#include <optional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "scheduler/ids.h"
#include "scheduler/translate.h"

namespace tandem::scheduler {
namespace {

// Shorter prefixes of a UUID are more likely a mistyped index.
constexpr size_t kShortestUuidPrefix = 4;
constexpr size_t kLongestName = 256;

Error NotFound(absl::string_view what, const std::string& text, absl::string_view known) {
  return {kNotFound, absl::StrCat("there is no ", what, " \"", text.substr(0, kLongestName),
                                  "\"; there are: ", known.empty() ? "none" : known)};
}

std::set<std::string> NodeNames(const core::ClusterState& state) {
  std::set<std::string> nodes;
  for (const core::Device& device : state.devices) nodes.insert(device.spec.node);
  return nodes;
}

OrError<core::DeviceId> OneOf(const core::ClusterState& state, const std::string& text,
                              const std::vector<core::DeviceId>& found) {
  const auto name = [&](std::string* out, core::DeviceId id) { out->append(state.At(id).spec.Name()); };
  if (found.size() == 1) return found.front();
  if (found.size() > 1) {
    return Error{kInvalidParameter, absl::StrCat("\"", text.substr(0, kLongestName), "\" may mean any of ",
                                                 absl::StrJoin(found, ", ", name), "; say which")};
  }
  std::vector<core::DeviceId> all;
  for (const core::Device& device : state.devices) all.push_back(device.id);
  return NotFound("device", text, absl::StrJoin(all, ", ", name));
}

bool MatchesUuid(const core::DeviceSpec& spec, absl::string_view text) {
  return text.size() >= kShortestUuidPrefix && absl::StartsWithIgnoreCase(spec.uuid, text);
}
// 0000:01:00.0 and 01:00.0 are the same.
bool MatchesPci(const core::DeviceSpec& spec, absl::string_view text) {
  return absl::StrContains(text, ':') && absl::EndsWithIgnoreCase(spec.pci_bus_id, text);
}

}  // namespace

OrError<core::DeviceId> ResolveDevice(const core::ClusterState& state, const std::string& text) {
  if (const auto it = state.device_names.find(text); it != state.device_names.end()) return it->second;
  absl::string_view rest = text;
  if (!absl::ConsumePrefix(&rest, "gpu/")) absl::ConsumePrefix(&rest, "device/");

  std::vector<core::DeviceId> found;
  uint32_t index;
  if (absl::SimpleAtoi(rest, &index)) {
    const bool single_node = NodeNames(state).size() == 1;
    for (const core::Device& device : state.devices) {
      if (device.spec.index == index) found.push_back(device.id);
    }
    if (!single_node && found.size() == 1) {  // right by chance today, another device tomorrow
      return Error{kInvalidParameter, absl::StrCat("a bare index is for one node only; say ",
                                                   state.At(found.front()).spec.node, "/", index)};
    }
    return OneOf(state, text, found);
  }
  for (const core::Device& device : state.devices) {
    const bool by_place = rest == absl::StrCat(device.spec.node, "/", device.spec.index);
    const bool exactly = absl::EqualsIgnoreCase(rest, device.spec.uuid);
    if (exactly) return device.id;
    if (by_place || MatchesUuid(device.spec, rest) || MatchesPci(device.spec, rest)) found.push_back(device.id);
  }
  return OneOf(state, text, found);
}

OrError<std::vector<core::DeviceId>> ResolveNode(const core::ClusterState& state, const std::string& text) {
  absl::string_view node = text;
  if (!absl::ConsumePrefix(&node, "nodes/")) absl::ConsumePrefix(&node, "node/");
  std::vector<core::DeviceId> devices;
  for (const core::Device& device : state.devices) {
    if (device.spec.node == node) devices.push_back(device.id);
  }
  if (!devices.empty()) return devices;
  return NotFound("node", text, absl::StrJoin(NodeNames(state), ", "));
}

OrError<const core::Group*> ResolveGroup(const core::ClusterState& state, const std::string& text) {
  absl::string_view rest = text;
  absl::ConsumePrefix(&rest, "group/");
  if (const auto id = GroupIdFrom(rest)) {
    if (const core::Group* group = state.Find(*id)) return group;
  }
  std::vector<std::string> names;
  for (const auto& [id, group] : state.groups) names.push_back(GroupName(id));
  return NotFound("group", text, absl::StrJoin(names, ", "));
}

OrError<const core::Model*> ResolveModel(const core::ClusterState& state, const std::string& text) {
  absl::string_view name = text;
  if (!absl::ConsumePrefix(&name, "models/")) absl::ConsumePrefix(&name, "model/");
  // Not FindModel: the alias "*" answers to any name in a request, and would hide an operator's typing error.
  if (const auto it = state.model_names.find(std::string(name)); it != state.model_names.end()) {
    return &state.At(it->second);
  }
  std::vector<std::string> names;
  for (const core::Model& model : state.models) {
    if (!model.undeployed) names.push_back(model.spec.name);
  }
  Error error = NotFound("model", text, absl::StrJoin(names, ", "));
  error.kind = kModelNotFound;
  return error;
}

OrError<const core::Request*> ResolveRequest(const core::ClusterState& state, const std::string& text) {
  absl::string_view rest = text;
  absl::ConsumePrefix(&rest, "request/");
  const auto id = RequestIdFromHex(rest);
  if (!id) return Error{kInvalidParameter, "a request is named by its 32 hex digits"};
  if (const core::Request* request = state.Find(*id)) return request;
  return Error{kNotFound, absl::StrCat("there is no request ", ToHex(*id), ", or it ended too long ago")};
}

}  // namespace tandem::scheduler
