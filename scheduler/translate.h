// Between the words on the wire and the words of the core: with row_messages.h, which is for operators, the only file
// that knows both.
//
// From a worker nothing is believed: a message that lacks an id, or carries a number that the core's types cannot hold,
// is an error with a sentence, and the stream that sent it is closed.
#ifndef TANDEM_SCHEDULER_TRANSLATE_H_
#define TANDEM_SCHEDULER_TRANSLATE_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "scheduler/core/core.h"
#include "scheduler/core/event.h"
#include "scheduler/core/types.h"
#include "tandem/v1/worker.pb.h"

namespace tandem::scheduler {

// ---- in every direction -------------------------------------------------------------------------------------------

void SetEpoch(uint64_t leader, uint32_t counter, v1::Epoch* out);
// What lies in the past is 0.
uint64_t ToMilliseconds(core::Duration d);

// ---- from workers -------------------------------------------------------------------------------------------------

core::Attempt AttemptFrom(const v1::AttemptKey& key);
absl::StatusOr<core::WorkerAttached> WorkerAttachedFrom(const v1::Hello& hello);
// What a worker says on Attach after its Hello. Nothing for what the core has no event for (links, cache, health).
absl::StatusOr<std::optional<core::Event>> EventFrom(const v1::AttachRequest& message, core::DeviceId device,
                                                     core::Incarnation incarnation);
core::RequestEnded RequestEndedFrom(core::RequestId id, core::Attempt attempt, const v1::Ended& ended);

// ---- to workers ---------------------------------------------------------------------------------------------------

v1::GroupKey GroupKeyFrom(core::GroupId group, core::GroupEpoch epoch);
v1::AttemptKey AttemptKeyFrom(core::RequestId request, core::Attempt attempt);

// ---- to operators -------------------------------------------------------------------------------------------------

// "groups/3.7" or "3.7", as core::Name has it, or the number that both make.
std::optional<core::GroupId> GroupIdFrom(absl::string_view name);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_TRANSLATE_H_
