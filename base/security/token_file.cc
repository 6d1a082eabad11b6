#include "base/security/token_file.h"

#include <openssl/sha.h>

#include <algorithm>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace tandem::security {
namespace {

constexpr size_t kLeastToken = 16, kMostToken = 512;
constexpr size_t kMostName = 128;

// What RFC 6750 lets a bearer token be made of.
bool OfToken(char c) {
  return absl::ascii_isalnum(c) || absl::string_view("-._~+/=").find(c) != absl::string_view::npos;
}

bool OfName(char c) { return absl::ascii_isalnum(c) || absl::string_view("-._@:/").find(c) != absl::string_view::npos; }

absl::StatusOr<TokenDigest> ReadDigest(absl::string_view word) {
  if (!absl::ConsumePrefix(&word, "sha256:")) {
    if (const absl::Status status = CheckToken(word); !status.ok()) return status;
    return DigestOf(word);
  }
  TokenDigest digest;
  if (word.size() != 2 * digest.size() ||
      !std::all_of(word.begin(), word.end(), [](unsigned char c) { return absl::ascii_isxdigit(c); })) {
    return absl::InvalidArgumentError("behind sha256: stand 64 hex digits");
  }
  const std::string bytes = absl::HexStringToBytes(word);
  std::copy(bytes.begin(), bytes.end(), digest.begin());
  return digest;
}

}  // namespace

TokenDigest DigestOf(absl::string_view token) {
  TokenDigest digest;
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(), digest.data());
  return digest;
}

absl::Status CheckToken(absl::string_view token) {
  if (token.size() < kLeastToken || token.size() > kMostToken) {
    return absl::InvalidArgumentError(absl::StrCat("a token has ", kLeastToken, " to ", kMostToken,
                                                   " characters, this one has ", token.size(),
                                                   "; `openssl rand -hex 32` makes one"));
  }
  if (!std::all_of(token.begin(), token.end(), OfToken)) {
    return absl::InvalidArgumentError("a token is made of letters, digits and - . _ ~ + / =");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TokenEntry>> ParseTokenFile(absl::string_view text, const std::string& file) {
  std::vector<TokenEntry> entries;
  std::map<TokenDigest, int> lines;
  int number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    const auto bad = [&](absl::string_view why) {
      return absl::InvalidArgumentError(absl::StrCat(file, ":", number, ": ", why));
    };
    const std::vector<absl::string_view> words = absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.empty() || words[0][0] == '#') continue;
    if (words.size() != 3 && words.size() != 4) {
      return bad(absl::StrCat("a line is NAME ROLES TOKEN, this one has ", words.size(),
                              words.size() == 1 ? " word" : " words"));
    }
    if (words[0].size() > kMostName || !std::all_of(words[0].begin(), words[0].end(), OfName)) {
      return bad("a name is 1 to 128 of letters, digits and - . _ @ : /");
    }
    const auto roles = ParseRoles(words[1]);
    // The words may stand in the wrong order: what is no role may be the token.
    if (!roles.ok()) return bad("the second word is no role: client, worker, admin, viewer, or several joined by +");
    const auto digest = ReadDigest(words[2]);
    if (!digest.ok()) return bad(digest.status().message());
    const auto [it, fresh] = lines.emplace(*digest, number);
    if (!fresh) return bad(absl::StrCat("the token of line ", it->second, " again"));
    const auto highest = words.size() == 4 ? ReadHighestPriority(words[3]) : kHighestPriority;
    if (!highest) return bad("behind a token may stand highest_priority=N with N from -100 to 100, and nothing else");
    entries.push_back({std::string(words[0]), *roles, *digest, *highest});
  }
  return entries;
}

absl::StatusOr<std::string> ParseOwnToken(absl::string_view text, const std::string& file) {
  const absl::string_view token = absl::StripAsciiWhitespace(text);
  if (const absl::Status status = CheckToken(token); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": ", status.message()));
  }
  return std::string(token);
}

}  // namespace tandem::security
