// Between the protocol and the engine's own structs; the only file of the worker that knows both.
//
// What comes from the scheduler is checked here for form (sizes, ranges), so that the engine sees sound values only.
// Whether they fit what this worker holds is the engine's to say.
#ifndef TANDEM_WORKER_TRANSLATE_H_
#define TANDEM_WORKER_TRANSLATE_H_

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "tandem/v1/worker.pb.h"
#include "worker/device.h"
#include "worker/engine/command.h"
#include "worker/engine/report.h"
#include "worker/engine/request_log.h"
#include "worker/link_probe.h"
#include "worker/topology/health_report.h"

namespace tandem::worker {

// The engine's commands. Nothing for those that are not the engine's (Welcome, Park, Exit, MeasureLink).
// INVALID_ARGUMENT names the field. `now` turns the deadline's duration into an instant.
absl::StatusOr<std::optional<Command>> CommandFrom(const v1::AttachResponse& message, SteadyTime now);

// INVALID_ARGUMENT names the field.
absl::StatusOr<ProbeOrder> ProbeFrom(const v1::MeasureLink& message);
v1::AttachRequest ProbeMessage(const ProbeReport& report);
v1::AttachRequest HealthMessage(const HealthReport& report);

// A report for the control stream, or for the token stream.
v1::AttachRequest ControlMessage(const Report& report);  // REQUIRES: one that travels on Attach
std::vector<v1::AttachRequest> CacheMessages(const CacheChanged& report);
// `now` ages what is Held, and `incarnation` says who holds it.
v1::TokensRequest TokensMessage(const StepDone& report, SteadyTime now, absl::string_view incarnation);

v1::GroupKey ToProto(const GroupRef& group);
v1::AttemptKey ToProto(const AttemptId& id);
void FillDeviceFacts(const Device& device, v1::DeviceFacts& facts);
v1::HeldShard HeldShardFrom(const ShardStatus& status, const std::vector<HeldRequest>& requests);
v1::ShardLoad LoadFrom(const ShardStatus& status);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_TRANSLATE_H_
