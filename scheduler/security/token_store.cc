#include "scheduler/security/token_store.h"

#include <glog/logging.h>
#include <openssl/crypto.h>

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
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
};

TokenStore::TokenStore(std::string file, absl::Duration refresh)
    : file_(std::move(file)), refresh_(refresh), looked_(absl::Now()) {}

TokenStore::~TokenStore() = default;

absl::StatusOr<std::unique_ptr<TokenStore>> TokenStore::Open(const std::string& file, absl::Duration refresh) {
  std::unique_ptr<TokenStore> store(new TokenStore(file, refresh));
  absl::MutexLock lock(&store->mu_);
  if (const absl::Status status = store->Read(); !status.ok()) return status;
  return store;
}

absl::Status TokenStore::Read() {
  const auto text = security::ReadBounded("token file", file_);
  if (!text.ok()) return text.status();
  const TokenDigest seen = security::DigestOf(*text);
  std::string digest(reinterpret_cast<const char*>(seen.data()), seen.size());
  if (table_ != nullptr && digest == text_) return absl::OkStatus();
  text_ = std::move(digest);
  auto entries = security::ParseTokenFile(*text, file_);
  if (!entries.ok()) return entries.status();
  auto table = std::make_shared<Table>();
  for (security::TokenEntry& entry : *entries) {
    table->bearers.emplace(entry.digest, Bearer{std::move(entry.name), entry.roles});
  }
  LOG(INFO) << entries->size() << " tokens of " << file_ << " are in force";
  table_ = std::move(table);
  return absl::OkStatus();
}

void TokenStore::Look() {
  if (absl::Now() - looked_ < refresh_) return;
  looked_ = absl::Now();
  if (const absl::Status status = Read(); !status.ok()) {
    LOG(ERROR) << "the tokens stay as they were: " << status.message();
  }
}

std::optional<TokenStore::Bearer> TokenStore::Find(absl::string_view token) {
  std::shared_ptr<const Table> table;
  {
    absl::MutexLock lock(&mu_);
    Look();
    table = table_;
  }
  const auto it = table->bearers.find(security::DigestOf(token));
  if (it == table->bearers.end()) return std::nullopt;
  return it->second;
}

}  // namespace tandem::scheduler
