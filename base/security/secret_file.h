// Reading files that hold secrets: bounded, regular, and looked at for who else may read them.
#ifndef TANDEM_BASE_SECURITY_SECRET_FILE_H_
#define TANDEM_BASE_SECURITY_SECRET_FILE_H_

#include <string>

#include "absl/status/statusor.h"

namespace tandem::security {

// At most 1 MiB. A failure says what the file is for, its path and why: INVALID_ARGUMENT.
absl::StatusOr<std::string> ReadBounded(const std::string& what, const std::string& path);

// One sentence where others than owner and group may read it, or others than the owner write it; else empty. A link is
// followed, as in the volumes that secrets are mounted from.
std::string LoosePermissions(const std::string& what, const std::string& path);

}  // namespace tandem::security

#endif  // TANDEM_BASE_SECURITY_SECRET_FILE_H_
