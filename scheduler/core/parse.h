// Reads an event back from its line (format.h), so that a journal replays.
#ifndef TANDEM_SCHEDULER_CORE_PARSE_H_
#define TANDEM_SCHEDULER_CORE_PARSE_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "scheduler/core/event.h"

namespace tandem::core {

// For any event e, ParseEvent(Format(e)) is e. A line that is no event is refused in one sentence that names the column
// or the member; no line crashes it.
absl::StatusOr<Event> ParseEvent(absl::string_view line);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_PARSE_H_
