// One line of text per event and per action, without a newline: the words of the journal and of the scenarios. Holds
// counts, names and hashes, never a prompt. parse.h reads an event's line back.
#ifndef TANDEM_SCHEDULER_CORE_FORMAT_H_
#define TANDEM_SCHEDULER_CORE_FORMAT_H_

#include <string>

#include "scheduler/core/action.h"
#include "scheduler/core/event.h"

namespace tandem::core {

// "group-formed device=d0 group=g1.1 epoch=1.1"
std::string Format(const Event& event);
std::string Format(const Action& action);

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_FORMAT_H_
