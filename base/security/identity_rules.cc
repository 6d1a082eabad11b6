#include "base/security/identity_rules.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tandem::security {

absl::StatusOr<IdentityRule> ParseIdentityRule(absl::string_view text) {
  const auto bad = [text](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text.substr(0, 256), "\" is not a rule: ", why));
  };
  const size_t equals = text.rfind('=');
  if (equals == absl::string_view::npos || equals == 0) {
    return bad("write NAME=ROLES, such as \"*.workers.rack7=worker\"");
  }
  const absl::string_view name = text.substr(0, equals);
  const auto roles = ParseRoles(text.substr(equals + 1));
  if (!roles.ok()) return bad(roles.status().message());
  absl::string_view fixed = name;
  // "*" alone is everybody whose certificate the CA signed.
  if (!absl::ConsumePrefix(&fixed, "*")) absl::ConsumeSuffix(&fixed, "*");
  if (absl::StrContains(fixed, '*')) return bad("one * may stand, at the begin or at the end");
  return IdentityRule{std::string(name), *roles};
}

bool Matches(const IdentityRule& rule, absl::string_view name) {
  absl::string_view pattern = rule.name;
  // The part that * stands for is not empty.
  if (absl::ConsumePrefix(&pattern, "*")) return name.size() > pattern.size() && absl::EndsWith(name, pattern);
  if (absl::ConsumeSuffix(&pattern, "*")) return name.size() > pattern.size() && absl::StartsWith(name, pattern);
  return name == pattern;
}

RoleSet RolesOf(const std::vector<IdentityRule>& rules, absl::string_view name) {
  RoleSet roles;
  for (const IdentityRule& rule : rules) {
    if (Matches(rule, name)) roles = roles | rule.roles;
  }
  return roles;
}

}  // namespace tandem::security
