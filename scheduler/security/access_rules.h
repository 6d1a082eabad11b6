// Who may call what: every method of every service with the roles that may. The one place where this is decided.
#ifndef TANDEM_SCHEDULER_SECURITY_ACCESS_RULES_H_
#define TANDEM_SCHEDULER_SECURITY_ACCESS_RULES_H_

#include <iterator>
#include <string_view>

#include "base/security/role.h"

namespace tandem::scheduler {

struct AccessRule {
  std::string_view method;  // "AdminService/GetStatus"
  security::RoleSet roles;  // one of them is enough
};

inline constexpr security::RoleSet kInferrers = security::Role::kClient;
inline constexpr security::RoleSet kComputers = security::Role::kWorker;
inline constexpr security::RoleSet kChangers = security::Role::kAdmin;
inline constexpr security::RoleSet kLookers = kChangers | security::Role::kViewer;

inline constexpr AccessRule kAccessRules[] = {
    {"InferenceService/Generate", kInferrers},
    {"InferenceService/Resume", kInferrers},
    {"InferenceService/Abort", kInferrers},
    {"InferenceService/Embed", kInferrers},
    {"InferenceService/Rerank", kInferrers},
    {"InferenceService/Tokenize", kInferrers},
    {"InferenceService/Detokenize", kInferrers},
    {"InferenceService/ListModels", kInferrers | kLookers},
    {"InferenceService/GetMetrics", kInferrers | kLookers},

    {"WorkerService/Attach", kComputers},
    {"WorkerService/Tokens", kComputers},

    {"AdminService/GetStatus", kLookers},
    {"AdminService/ListNodes", kLookers},
    {"AdminService/ListDevices", kLookers},
    {"AdminService/GetDevice", kLookers},
    {"AdminService/ListGroups", kLookers},
    {"AdminService/GetGroup", kLookers},
    {"AdminService/ListModels", kLookers},
    {"AdminService/GetModel", kLookers},
    {"AdminService/ListRequests", kLookers},
    {"AdminService/GetRequest", kLookers},
    {"AdminService/ExplainRequest", kLookers},
    {"AdminService/ExplainGroup", kLookers},
    {"AdminService/ExplainModel", kLookers},
    {"AdminService/GetTopology", kLookers},
    {"AdminService/WatchEvents", kLookers},
    {"AdminService/CordonDevice", kChangers},
    {"AdminService/UncordonDevice", kChangers},
    {"AdminService/CordonNode", kChangers},
    {"AdminService/UncordonNode", kChangers},
    {"AdminService/DrainDevice", kChangers},
    {"AdminService/DrainNode", kChangers},
    {"AdminService/DrainGroup", kChangers},
    {"AdminService/UndrainDevice", kChangers},
    {"AdminService/UndrainNode", kChangers},
    {"AdminService/DeployModel", kChangers},
    {"AdminService/UndeployModel", kChangers},
    {"AdminService/ScaleModel", kChangers},
};

// Nobody where there is no rule; a constant of it that is used does not compile then.
consteval security::RoleSet RolesFor(std::string_view method) {
  for (const AccessRule& rule : kAccessRules) {
    if (rule.method == method) return rule.roles;
  }
  throw "a method without a rule";
}

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_SECURITY_ACCESS_RULES_H_
