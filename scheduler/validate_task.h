// Is this model one for this call? A model has one task, and each task its own calls.
#ifndef TANDEM_SCHEDULER_VALIDATE_TASK_H_
#define TANDEM_SCHEDULER_VALIDATE_TASK_H_

#include <optional>
#include <string>

#include "scheduler/grpc_error.h"
#include "scheduler/model_catalog.h"

namespace tandem::scheduler {

// INVALID_PARAMETER, with the call that the model is for, unless its task is `task`. `call` is what was called.
std::optional<Error> ValidateTask(const ServedModel& model, const char* task, const char* call);

// The fields that every call has for the queue.
std::optional<Error> ValidateCaller(int32_t priority, const std::string& tenant);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_VALIDATE_TASK_H_
