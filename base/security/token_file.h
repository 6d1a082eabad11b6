// The server's list of bearer tokens, a line each:
//
//   # who        may         token, or its SHA-256
//   gateway-1    client      3f9c...                  (at least 16 of letters, digits and - . _ ~ + / =)
//   prometheus   viewer      sha256:9f86d081884c7d65...
//   nightly      client      77d2...  highest_priority=-10     its requests wait for others'
//
// A token is kept as its SHA-256, also where the file has it in the clear: what is compared, and what a memory dump
// shows, is the digest. No message holds a token or a part of one.
#ifndef TANDEM_BASE_SECURITY_TOKEN_FILE_H_
#define TANDEM_BASE_SECURITY_TOKEN_FILE_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/security/priority_bound.h"
#include "base/security/role.h"

namespace tandem::security {

using TokenDigest = std::array<uint8_t, 32>;

struct TokenEntry {
  std::string name;  // for logs and messages
  RoleSet roles;
  TokenDigest digest;
  int32_t highest_priority = kHighestPriority;  // of its requests
};

TokenDigest DigestOf(absl::string_view token);

// Whether `token` is one: 16 to 512 of the characters above. The message has nothing of it.
absl::Status CheckToken(absl::string_view token);

// INVALID_ARGUMENT "FILE:LINE: what is wrong": a word too few or too many, a role that is none, a token too short, a
// token given twice. A name may stand more than once: an old token beside a new one.
absl::StatusOr<std::vector<TokenEntry>> ParseTokenFile(absl::string_view text, const std::string& file);

// The single token of a program that dials: the file's text without white space around it.
absl::StatusOr<std::string> ParseOwnToken(absl::string_view text, const std::string& file);

}  // namespace tandem::security

#endif  // TANDEM_BASE_SECURITY_TOKEN_FILE_H_
