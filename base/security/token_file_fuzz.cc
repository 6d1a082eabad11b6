// One input, all that reads what an operator wrote about who may do what.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/security/identity_rules.h"
#include "base/security/token_file.h"

namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tandem::security;  // NOLINT(google-build-using-namespace): an entry, not a library
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto entries = ParseTokenFile(text, "f");
  if (entries.ok()) {
    std::string again;
    for (const TokenEntry& entry : *entries) {
      Require(!entry.name.empty() && !entry.roles.empty());
      Require(ParseRoles(entry.roles.ToString()).value() == entry.roles);
      absl::StrAppend(&again, entry.name, " ", entry.roles.ToString(), " sha256:");
      for (const uint8_t byte : entry.digest) absl::StrAppend(&again, absl::Hex(byte, absl::kZeroPad2));
      again += '\n';
    }
    const auto twice = ParseTokenFile(again, "g");  // what is taken can be written, and means the same
    Require(twice.ok() && twice->size() == entries->size());
    for (size_t i = 0; i < entries->size(); ++i) Require((*twice)[i].digest == (*entries)[i].digest);
  } else {
    Require(absl::StartsWith(entries.status().message(), "f:") && entries.status().message().size() < 256);
  }
  const auto own = ParseOwnToken(text, "f");
  if (own.ok()) Require(CheckToken(*own).ok());
  const auto rule = ParseIdentityRule(text);
  if (rule.ok()) {
    Require(!rule->name.empty() && !rule->roles.empty());
    Matches(*rule, text);
  }
  return 0;
}
