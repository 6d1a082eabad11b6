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
// "groups/7" or "7"; also a dissolved one that is remembered.
OrError<const core::Group*> ResolveGroup(const core::ClusterState& state, const std::string& text);
// "models/chat", "chat" or an alias.
OrError<const core::Model*> ResolveModel(const core::ClusterState& state, const std::string& text);
// "requests/<32 hex digits>" or the digits; also an ended one that is remembered.
OrError<const core::Request*> ResolveRequest(const core::ClusterState& state, const std::string& text);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_NAME_RESOLVER_H_
