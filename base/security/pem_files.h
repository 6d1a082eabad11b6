// Looks into PEM files before they are used, so that what is wrong is said in one sentence at the start and not by a
// handshake that fails later.
#ifndef TANDEM_BASE_SECURITY_PEM_FILES_H_
#define TANDEM_BASE_SECURITY_PEM_FILES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/security/settings.h"

namespace tandem::security {

// Of the first certificate of a file; the others lead to its CA.
struct CertificateFacts {
  std::string subject;
  absl::Time not_before, not_after;
};

absl::StatusOr<CertificateFacts> ReadCertificate(const std::string& path);

// That the files are there, are PEM, fit together and are valid now: INVALID_ARGUMENT names the first that is not.
// `warnings`: one sentence each on a key that others may read and a certificate that ends within two weeks.
absl::Status CheckDoorFiles(const DoorSettings& door, absl::Time now, std::vector<std::string>* warnings);
// The token's file too.
absl::Status CheckDialFiles(const DialSettings& dial, absl::Time now, std::vector<std::string>* warnings);

}  // namespace tandem::security

#endif  // TANDEM_BASE_SECURITY_PEM_FILES_H_
