// CORE_CHECK ends the process when our own reasoning is broken: a booking released twice, a group that is not there.
// The core may not log, so the sentence goes to standard error once and the process aborts. Never for what a client, a
// worker or an operator can cause: those are statuses and events.
#ifndef TANDEM_SCHEDULER_CORE_CHECK_H_
#define TANDEM_SCHEDULER_CORE_CHECK_H_

#include <string>

#include "absl/strings/str_cat.h"

namespace tandem::core {

[[noreturn]] void CheckFailed(const char* file, int line, const char* condition, const std::string& values);

}  // namespace tandem::core

// CORE_CHECK(group.booked >= booking, "group ", id, " holds ", n): the rest is concatenated, and only on failure.
#define CORE_CHECK(condition, ...)                                                                                \
  do {                                                                                                            \
    if (!(condition)) {                                                                                           \
      ::tandem::core::CheckFailed(__FILE__, __LINE__, #condition, ::absl::StrCat("" __VA_OPT__(, ) __VA_ARGS__)); \
    }                                                                                                             \
  } while (false)

#endif  // TANDEM_SCHEDULER_CORE_CHECK_H_
