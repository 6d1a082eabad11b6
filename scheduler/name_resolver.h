// From what an operator types to what the core knows. Devices by resource name, "node/index", bare index on a single
// node, UUID or a unique prefix of it, PCI bus id; "gpu/X" and "device/X" are X. What is ambiguous is refused with the
// candidates, never guessed.
#ifndef TANDEM_SCHEDULER_NAME_RESOLVER_H_
#define TANDEM_SCHEDULER_NAME_RESOLVER_H_

#include <string>
#include <variant>
#include <vector>

#include "scheduler/core/cluster_state.h"
#include "scheduler/grpc_error.h"

namespace tandem::scheduler {

template <typename T>
using OrError = std::variant<T, Error>;

OrError<core::DeviceId> ResolveDevice(const core::ClusterState& state, const std::string& text);
// The devices of "nodes/box" or "box"; never empty.
OrError<std::vector<core::DeviceId>> ResolveNode(const core::ClusterState& state, const std::string& text);
// "groups/3.7" or "3.7".
OrError<const core::Group*> ResolveGroup(const core::ClusterState& state, const std::string& text);
// What "models/chat" may be the name of: the model "chat", and else one that is really called "models/chat", as a
// folder of that name is when it is served under its path.
std::vector<std::string> ModelNamesMeant(const std::string& text);
// "models/chat", "chat" or an alias.
OrError<const core::Model*> ResolveModel(const core::ClusterState& state, const std::string& text);
// "requests/<32 hex digits>" or the digits, or the latest with this x-request-id or trace; also an ended one that is
// remembered.
OrError<const core::Request*> ResolveRequest(const core::ClusterState& state, const std::string& text);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_NAME_RESOLVER_H_
