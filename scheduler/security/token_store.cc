#include "scheduler/security/token_store.h"

#include <glog/logging.h>
#include <openssl/crypto.h>

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "base/security/secret_file.h"
#include "base/security/token_file.h"

namespace tandem::scheduler {
namespace {

using security::TokenDigest;

// What is compared is a digest, so that time tells nothing of a token; and the comparison takes one time as well.
struct SameDigest {
  bool operator()(const TokenDigest& a, const TokenDigest& b) const {
    return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
  }
};

}  // namespace

struct TokenStore::Table {
  absl::flat_hash_map<TokenDigest, Bearer, absl::Hash<TokenDigest>, SameDigest> bearers;
  absl::flat_hash_map<std::string, security::RoleSet> names;
};

TokenStore::TokenStore(std::string file) : file_(std::move(file)) {}

TokenStore::~TokenStore() = default;

absl::StatusOr<std::unique_ptr<TokenStore>> TokenStore::Open(const std::string& file) {
  std::unique_ptr<TokenStore> store(new TokenStore(file));
  absl::MutexLock lock(&store->reading_);
  if (const absl::Status status = store->Read(); !status.ok()) return status;
  return store;
}

absl::Status TokenStore::Read() {
  const auto text = security::ReadBounded("token file", file_);
  if (!text.ok()) return text.status();
  const TokenDigest seen = security::DigestOf(*text);
  std::string digest(reinterpret_cast<const char*>(seen.data()), seen.size());
  if (digest == text_) return absl::OkStatus();
  text_ = std::move(digest);
  auto entries = security::ParseTokenFile(*text, file_);
  if (!entries.ok()) return entries.status();
  auto table = std::make_shared<Table>();
  for (security::TokenEntry& entry : *entries) {
    security::RoleSet& roles = table->names[entry.name];
    roles = roles | entry.roles;
    Bearer bearer{std::move(entry.name), {}};
    bearer.grant.Add(entry.roles, entry.highest_priority);
    table->bearers.emplace(entry.digest, std::move(bearer));
  }
  LOG(INFO) << entries->size() << " tokens of " << file_ << " are in force";
  absl::MutexLock lock(&mu_);
  table_ = std::move(table);
  return absl::OkStatus();
}

void TokenStore::Refresh() {
  absl::MutexLock lock(&reading_);
  if (const absl::Status status = Read(); !status.ok()) {
    LOG(ERROR) << "the tokens stay as they were: " << status.message();
  }
}

std::shared_ptr<const TokenStore::Table> TokenStore::table() const {
  absl::MutexLock lock(&mu_);
  return table_;
}

std::optional<TokenStore::Bearer> TokenStore::Find(absl::string_view token) const {
  const auto table = this->table();
  const auto it = table->bearers.find(security::DigestOf(token));
  if (it == table->bearers.end()) return std::nullopt;
  return it->second;
}

security::RoleSet TokenStore::RolesOf(absl::string_view name) const {
  const auto table = this->table();
  const auto it = table->names.find(name);
  return it == table->names.end() ? security::RoleSet() : it->second;
}

}  // namespace tandem::scheduler
