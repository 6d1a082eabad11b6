#include "base/security/identity_rules.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tandem::security {

absl::StatusOr<IdentityRule> ParseIdentityRule(absl::string_view text) {
  const auto bad = [text](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text.substr(0, 256), "\" is not a rule: ", why));
  };
  IdentityRule rule;
  // A name may have spaces; what stands behind the last one is a bound, or belongs to the rule.
  if (const size_t space = text.rfind(' '); space != absl::string_view::npos) {
    const absl::string_view word = text.substr(space + 1);
    const auto highest = ReadHighestPriority(word);
    if (!highest && absl::StartsWith(word, "highest_priority")) return bad("highest_priority=N has N from -100 to 100");
    if (highest) {
      rule.highest_priority = *highest;
      text = absl::StripTrailingAsciiWhitespace(text.substr(0, space));
    }
  }
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
  rule.name = std::string(name);
  rule.roles = *roles;
  return rule;
}

bool Matches(const IdentityRule& rule, absl::string_view name) {
  absl::string_view pattern = rule.name;
  // The part that * stands for is not empty.
  if (absl::ConsumePrefix(&pattern, "*")) return name.size() > pattern.size() && absl::EndsWith(name, pattern);
  if (absl::ConsumeSuffix(&pattern, "*")) return name.size() > pattern.size() && absl::StartsWith(name, pattern);
  return name == pattern;
}

std::string IdentityRule::ToString() const {
  return absl::StrCat(name, "=", roles.ToString(),
                      highest_priority == kHighestPriority ? "" : absl::StrCat(" highest_priority=", highest_priority));
}

void Grant::Add(RoleSet more, int32_t highest) {
  roles = roles | more;
  if (more.Meets(Role::kClient)) highest_priority = std::max(highest_priority, highest);
}

Grant GrantOf(const std::vector<IdentityRule>& rules, absl::string_view name) {
  Grant grant;
  for (const IdentityRule& rule : rules) {
    if (Matches(rule, name)) grant.Add(rule.roles, rule.highest_priority);
  }
  return grant;
}

}  // namespace tandem::security
