#include "scheduler/validate_task.h"

#include "absl/strings/str_format.h"

namespace tandem::scheduler {
namespace {

constexpr int kPriorityRange = 100;
constexpr size_t kLongestTenant = 64;

}  // namespace

std::optional<Error> ValidateTask(const ServedModel& model, const char* task, const char* call) {
  const std::string& is = model.spec.task;
  if (is == task) return std::nullopt;
  const char* const meant = is == "generate" ? "Generate" : is == "embed" ? "Embed" : "Rerank";
  return Error{kInvalidParameter,
               absl::StrFormat("model %s has the task %s, so it does not answer %s; call %s, or name a model of the "
                               "task %s",
                               model.spec.name, is, call, meant, task),
               {},
               {{"field", "model"}, {"task", is}}};
}

std::optional<Error> ValidateCaller(int32_t priority, const std::string& tenant) {
  if (priority < -kPriorityRange || priority > kPriorityRange) {
    return Error{kInvalidParameter,
                 absl::StrFormat("priority is %d; allowed are %d to %d", priority, -kPriorityRange, kPriorityRange),
                 {},
                 {{"field", "priority"}}};
  }
  if (tenant.size() > kLongestTenant) {
    return Error{kInvalidParameter,
                 absl::StrFormat("tenant has %d characters; allowed are %d", tenant.size(), kLongestTenant),
                 {},
                 {{"field", "tenant"}}};
  }
  return std::nullopt;
}

}  // namespace tandem::scheduler
