// How the core writes quantities and names in sentences for people: one spelling everywhere. Not parsed again; what is
// parsed lives in format.h.
#ifndef TANDEM_SCHEDULER_CORE_WORDS_H_
#define TANDEM_SCHEDULER_CORE_WORDS_H_

#include <string>
#include <vector>

#include "scheduler/core/cluster_state.h"
#include "scheduler/core/types.h"

namespace tandem::core {

std::string Words(Bytes bytes);        // "3.2 GiB"
std::string Words(Duration duration);  // "41 s", "2.5 s", "500 ms"
const char* Words(DeviceState state);
const char* Words(GroupState state);
const char* Words(RequestState state);
const char* Words(Reason reason);  // as in SURFACE.md: "NEVER_FITS"

std::string Hex(RequestId id);         // 32 digits
std::string Name(RequestId id);        // "requests/..."
std::string Name(GroupId id);          // "groups/3.7": the seventh of the third leader
std::string Name(const Model& model);  // "models/chat"
std::string Name(const ClusterState& state, DeviceId id);

// "a, b and c"; more than `most` are counted: "a, b and 7 more".
std::string List(const std::vector<std::string>& items, size_t most = 4);
std::string List(const ClusterState& state, const std::vector<DeviceId>& devices, size_t most = 4);
std::vector<DeviceId> DevicesOf(const Group& group);

// "1 request", "3 requests"
std::string Count(int64_t n, absl::string_view noun);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_WORDS_H_
