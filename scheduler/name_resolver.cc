#include "scheduler/name_resolver.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "scheduler/core/words.h"
#include "scheduler/ids.h"
#include "scheduler/translate.h"

namespace tandem::scheduler {
namespace {

// Shorter prefixes of a UUID are more likely a mistyped index.
constexpr size_t kShortestUuidPrefix = 4;
constexpr size_t kLongestName = 256;
constexpr size_t kMostNamed = 16;

Error NotFound(absl::string_view what, const std::string& text, absl::string_view known) {
  return {kNotFound, absl::StrCat("there is no ", what, " \"", text.substr(0, kLongestName),
                                  "\"; there are: ", known.empty() ? "none" : known)};
}

// The first of `count` names; whoever has thousands looks at a list.
std::string Few(size_t count, const std::function<std::string(size_t)>& name) {
  std::vector<std::string> names;
  for (size_t i = 0; i < std::min(count, kMostNamed); ++i) names.push_back(name(i));
  return absl::StrCat(absl::StrJoin(names, ", "),
                      count > kMostNamed ? absl::StrCat(" and ", count - kMostNamed, " more") : "");
}

OrError<core::DeviceId> OneOf(const core::ClusterState& state, const std::string& text,
                              const std::vector<core::DeviceId>& found) {
  if (found.size() == 1) return found.front();
  if (found.size() > 1) {
    const std::string candidates = Few(found.size(), [&](size_t i) { return state.At(found[i]).spec.Name(); });
    return Error{kInvalidParameter,
                 absl::StrCat("\"", text.substr(0, kLongestName), "\" may mean any of ", candidates, "; say which")};
  }
  return NotFound("device", text, Few(state.devices.size(), [&](size_t i) { return state.devices[i].spec.Name(); }));
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
    const bool single_node = state.nodes.size() == 1;
    for (const core::Device& device : state.devices) {
      if (device.spec.index == index) found.push_back(device.id);
    }
    if (!single_node && found.size() == 1) {  // right by chance today, another device tomorrow
      return Error{kInvalidParameter, absl::StrCat("a bare index is for one node only; say ",
                                                   state.At(found.front()).spec.node, "/", index)};
    }
    return OneOf(state, text, found);
  }
  const size_t slash = rest.rfind('/');
  if (slash != absl::string_view::npos) {  // the place, or nothing: no UUID or PCI bus id has a slash
    const auto it =
        state.device_names.find(absl::StrCat("nodes/", rest.substr(0, slash), "/devices/", rest.substr(slash + 1)));
    if (it != state.device_names.end()) found.push_back(it->second);
    return OneOf(state, text, found);
  }
  for (const core::Device& device : state.devices) {
    const bool exactly = absl::EqualsIgnoreCase(rest, device.spec.uuid);
    if (exactly) return device.id;
    if (MatchesUuid(device.spec, rest) || MatchesPci(device.spec, rest)) found.push_back(device.id);
  }
  return OneOf(state, text, found);
}

OrError<std::vector<core::DeviceId>> ResolveNode(const core::ClusterState& state, const std::string& text) {
  absl::string_view node = text;
  if (!absl::ConsumePrefix(&node, "nodes/")) absl::ConsumePrefix(&node, "node/");
  for (const core::Node& known : state.nodes) {
    if (known.name == node) return known.devices;
  }
  return NotFound("node", text, Few(state.nodes.size(), [&](size_t i) { return state.nodes[i].name; }));
}

OrError<const core::Group*> ResolveGroup(const core::ClusterState& state, const std::string& text) {
  absl::string_view rest = text;
  absl::ConsumePrefix(&rest, "group/");
  if (const auto id = GroupIdFrom(rest)) {
    if (const core::Group* group = state.Find(*id)) return group;
  }
  auto it = state.groups.begin();
  return NotFound("group", text, Few(state.groups.size(), [&](size_t) { return core::Name((it++)->first); }));
}

std::vector<std::string> ModelNamesMeant(const std::string& text) {
  absl::string_view name = text;
  if (!absl::ConsumePrefix(&name, "models/") && !absl::ConsumePrefix(&name, "model/")) return {text};
  return {std::string(name), text};
}

OrError<const core::Model*> ResolveModel(const core::ClusterState& state, const std::string& text) {
  // Not FindModel: the alias "*" answers to any name in a request, and would hide an operator's typing error.
  for (const std::string& name : ModelNamesMeant(text)) {
    if (const auto it = state.model_names.find(name); it != state.model_names.end()) return &state.At(it->second);
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
  if (!absl::ConsumePrefix(&rest, "requests/")) absl::ConsumePrefix(&rest, "request/");
  if (const auto id = RequestIdFromHex(rest)) {
    if (const core::Request* request = state.Find(*id)) return request;
  }
  // A caller may have used its id twice: the latest one is meant.
  const auto named = [&](const core::Request& request) {
    return !rest.empty() && (request.caller_id == rest || request.trace_id == rest);
  };
  for (auto it = state.requests.rbegin(); it != state.requests.rend(); ++it) {
    if (named(*it->second)) return it->second.get();
  }
  for (auto it = state.ended.rbegin(); it != state.ended.rend(); ++it) {
    if (named(**it)) return it->get();
  }
  return Error{kNotFound, absl::StrCat("there is no request \"", text.substr(0, kLongestName),
                                       "\", or it ended too long ago; a request is named by its 32 hex digits, by its "
                                       "caller's x-request-id or by its trace")};
}

}  // namespace tandem::scheduler
