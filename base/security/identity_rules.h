// Which certificate may do what: "NAME=ROLES" rules, and the names of a certificate held against them. Behind the roles
// may stand how urgent requests may be: "nightly.rack7=client highest_priority=-10".
//
// A certificate's names are its subject alternative names (DNS, URI, e-mail, address) and, where it has none, its
// common name. A rule's name may begin or end with "*": "*.workers.rack7", "spiffe://rack7/worker/*".
#ifndef TANDEM_BASE_SECURITY_IDENTITY_RULES_H_
#define TANDEM_BASE_SECURITY_IDENTITY_RULES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/security/priority_bound.h"
#include "base/security/role.h"

namespace tandem::security {

struct IdentityRule {
  std::string name;
  RoleSet roles;
  int32_t highest_priority = kHighestPriority;  // of a client's requests

  std::string ToString() const;
};

// "ops@example.org=admin". INVALID_ARGUMENT says what is wrong.
absl::StatusOr<IdentityRule> ParseIdentityRule(absl::string_view text);

bool Matches(const IdentityRule& rule, absl::string_view name);

// What several rules give together: all roles, and the highest bound of those that make somebody a client.
struct Grant {
  RoleSet roles;
  int32_t highest_priority = -kHighestPriority;

  void Add(RoleSet more, int32_t highest);
};

// What all rules give to this name; no role where there is no rule for it.
Grant GrantOf(const std::vector<IdentityRule>& rules, absl::string_view name);

}  // namespace tandem::security

#endif  // TANDEM_BASE_SECURITY_IDENTITY_RULES_H_
