// As whom a call was let in, and what it may ask for. The default is that of a door without roles: everything, and
// nobody takes it back.
#ifndef TANDEM_SCHEDULER_SECURITY_ADMISSION_H_
#define TANDEM_SCHEDULER_SECURITY_ADMISSION_H_

#include <cstdint>

#include "base/security/priority_bound.h"
#include "scheduler/security/open_calls.h"

namespace tandem::scheduler {

struct Admission {
  int32_t highest_priority = security::kHighestPriority;
  // Where a token let it in: a call that lasts enters itself with the ticket, and leaves when it is done.
  OpenCalls* calls = nullptr;
  OpenCalls::Ticket ticket = {};

  void Enter(AdmittedCall* call) const {
    if (calls != nullptr) calls->Enter(call, ticket);
  }
  void Leave(AdmittedCall* call) const {
    if (calls != nullptr) calls->Leave(call);
  }
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_SECURITY_ADMISSION_H_
