// Which certificate may do what: "NAME=ROLES" rules, and the names of a certificate held against them.
//
// A certificate's names are its subject alternative names (DNS, URI, e-mail, address) and, where it has none, its
// common name. A rule's name may begin or end with "*": "*.workers.rack7", "spiffe://rack7/worker/*".
#ifndef TANDEM_BASE_SECURITY_IDENTITY_RULES_H_
#define TANDEM_BASE_SECURITY_IDENTITY_RULES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/security/role.h"

namespace tandem::security {

struct IdentityRule {
  std::string name;
  RoleSet roles;
};

// "ops@example.org=admin". INVALID_ARGUMENT says what is wrong.
absl::StatusOr<IdentityRule> ParseIdentityRule(absl::string_view text);

bool Matches(const IdentityRule& rule, absl::string_view name);

// What all rules give to this name; none where there is no rule for it.
RoleSet RolesOf(const std::vector<IdentityRule>& rules, absl::string_view name);

}  // namespace tandem::security

#endif  // TANDEM_BASE_SECURITY_IDENTITY_RULES_H_
