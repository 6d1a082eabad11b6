#include "base/security/role.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tandem::security {
namespace {

constexpr const char* kWords[kRoles] = {"client", "worker", "admin", "viewer"};

}  // namespace

const char* Word(Role role) { return kWords[static_cast<int>(role)]; }

std::string RoleSet::ToString(absl::string_view between) const {
  std::string text;
  for (int i = 0; i < kRoles; ++i) {
    if (!Meets(static_cast<Role>(i))) continue;
    absl::StrAppend(&text, text.empty() ? "" : between, kWords[i]);
  }
  return text;
}

absl::StatusOr<RoleSet> ParseRoles(absl::string_view text) {
  RoleSet roles;
  for (const absl::string_view word : absl::StrSplit(text, '+')) {
    int i = 0;
    while (i < kRoles && word != kWords[i]) ++i;
    if (i == kRoles) {
      return absl::InvalidArgumentError(absl::StrCat("\"", word.substr(0, 64),
                                                     "\" is not a role; there are client, worker, admin and viewer, ",
                                                     "several joined by +"));
    }
    roles = roles | static_cast<Role>(i);
  }
  return roles;
}

}  // namespace tandem::security
