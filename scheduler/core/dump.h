// The whole state as text, and back. Every segment of the journal opens with it, so that any segment replays alone:
// Core(*LoadState(dump)), then the segment's events, gives what the service did.
//
// One line per thing: state, options, device, model, group, request, drain and so on, in the form of text.h. Prompts
// are not in the state, so they are not in the dump.
#ifndef TANDEM_SCHEDULER_CORE_DUMP_H_
#define TANDEM_SCHEDULER_CORE_DUMP_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "scheduler/core/cluster_state.h"

namespace tandem::core {

// Between two steps only.
std::string DumpState(const ClusterState& state);

// Refuses in one sentence, with the line, what DumpState did not write; a state that breaks an invariant too.
absl::StatusOr<ClusterState> LoadState(absl::string_view dump);

// Equal states, equal hashes; the same in every process.
uint64_t StateHash(const ClusterState& state);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_DUMP_H_
