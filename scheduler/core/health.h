// What devices say of their own health, and what follows from it: a table says so, CoreOptions::health, which is data
// (config/tables/device_health.yaml). By weight:
//
//   none            counted
//   log             told
//   slow            its groups get less work, as if their steps took `times_slower` as long; before the steps show it
//   distrust-links  its NVLinks do not count when groups are placed, and what was measured over them is forgotten
//   cordon          no new group here until an operator uncordons; what runs goes on
//   quarantine      FAILED for a cool-off (quarantine.h); what runs goes on
//   drain           drained as by an operator, whose undrain ends it. Where a model would lose its last replica by it,
//                   cordoned
//   fence           quarantine, and its groups end now: their requests go on elsewhere
//
// A report says that something happened, and counts for the row's cool-off; or that something holds, `lasting`, and
// counts until the worker clears it or another process takes its place. One ailment a code. Under the brake of
// quarantine.h: what takes a device out of service does so only as long as few are, else it is told and no more.
//
// What health made an operator's wish, cordon and drain, is told from an operator's own by its reason, which begins
// with kByHealth and outlives a restart.
#ifndef TANDEM_SCHEDULER_CORE_HEALTH_H_
#define TANDEM_SCHEDULER_CORE_HEALTH_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "scheduler/core/action.h"
#include "scheduler/core/cluster_state.h"
#include "scheduler/core/event.h"

namespace tandem::core {

inline constexpr absl::string_view kByHealth = "health: ";
inline constexpr size_t kMostAilments = 16;      // of one device; the oldest goes
inline constexpr size_t kMostHealthCounts = 64;  // codes that are counted apart

void Handle(ClusterState& state, const HealthReported& event, Actions& out);
// Some ailment has ended by itself.
void OnHealthTimer(ClusterState& state, Device& device, Actions& out);

// The row for this code; null: there is none.
const HealthRule* RuleFor(const CoreOptions& options, absl::string_view code);

// Cordoned or drained by its health, and no operator has said otherwise.
bool WithdrawnByHealth(const Device& device);
// Something that lasts wants it in quarantine.
bool AilsToBeOut(const Device& device);
// Whether the labels of its NVLinks may be planned with.
bool TrustsLinks(const Device& device);

// Its quarantine is over: what put it there is no more.
void ForgetQuarantine(ClusterState& state, Device& device);
// An operator has seen to it: likewise all that took it out of service.
void ForgetWithdrawal(ClusterState& state, Device& device);
// A new process speaks for the device.
void ForgetLasting(ClusterState& state, Device& device);
// A group was adopted that has a rank on a device that was fenced meanwhile: it ends.
void FenceAdopted(ClusterState& state, GroupId group, Actions& out);

// A sentence for each ailment, as of `now`.
std::vector<std::string> DescribeAilments(const std::vector<Ailment>& ailments, Instant now);
std::vector<std::string> DescribeHealth(const ClusterState& state, const Device& device);
// What is wrong with the account itself; see invariants.h.
std::vector<std::string> CheckHealth(const ClusterState& state, const Device& device);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_HEALTH_H_
