// The scheduler's mind: events in, actions out, nothing else.
//
// Pure: no clock, thread, socket, log, random source or protobuf; std and abseil only. One thread owns a Core.
// Decisions use integers and ordered tables, so equal histories give equal results, bit for bit: the service, the
// simulator, the planner, the replay of a journal and the scenario tests all run this one.
//
// Core holds the state and hands each event to the file of its noun: placement decides which devices form which group,
// assignment which group takes a request, drain how devices leave. core.cc itself is dispatch.
#ifndef TANDEM_SCHEDULER_CORE_CORE_H_
#define TANDEM_SCHEDULER_CORE_CORE_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"
#include "scheduler/core/event.h"
#include "scheduler/core/types.h"

namespace tandem::core {

class Core {
 public:
  explicit Core(const CoreOptions& options);
  // Goes on where a dump (dump.h) left off.
  explicit Core(ClusterState state) : state_(std::move(state)) {}

  // The only way in. `now` is the only clock; a clock that falls is clamped, never worth a crash.
  Actions Step(Instant now, const Event& event);

  // When Step(.., Ticked{}) is due at the latest; kNever when nothing waits for time.
  Instant NextDeadline() const;

  // Read-only views for status, get and explain. Valid until the next Step.
  const ClusterState& state() const { return state_; }

  // Why here, what else was possible, what it waits for: sentences, one fact a line; the first is the verdict.
  absl::StatusOr<std::vector<std::string>> ExplainRequest(RequestId request) const;
  absl::StatusOr<std::vector<std::string>> ExplainGroup(GroupId group) const;
  absl::StatusOr<std::vector<std::string>> ExplainModel(absl::string_view name) const;

 private:
  ClusterState state_;
};

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_CORE_H_
