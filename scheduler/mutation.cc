#include "scheduler/mutation.h"

#include <openssl/sha.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace tandem::scheduler {
namespace {

constexpr size_t kLongestReason = 512, kLongestKey = 128;

}  // namespace

std::optional<Error> CheckMutation(const v1::Mutation& mutation) {
  const auto too_long = [](const char* field, size_t bytes, size_t most) {
    return Error{
        kInvalidParameter, absl::StrCat(field, " has ", bytes, " bytes; allowed are ", most), {}, {{"field", field}}};
  };
  if (mutation.reason().size() > kLongestReason) {
    return too_long("mutation.reason", mutation.reason().size(), kLongestReason);
  }
  if (mutation.idempotency_key().size() > kLongestKey) {
    return too_long("mutation.idempotency_key", mutation.idempotency_key().size(), kLongestKey);
  }
  return std::nullopt;
}

std::optional<Error> CheckEtag(const std::string& name, const std::string& now, const std::string& asked) {
  if (asked.empty() || asked == now) return std::nullopt;
  return Error{kEtagMismatch, absl::StrCat(name, " has changed: its etag is ", now.empty() ? "none" : now, ", not ",
                                           asked.substr(0, 64), "; look again")};
}

Error HasNoEtag(absl::string_view kind) {
  return {kInvalidParameter,
          absl::StrCat("a ", kind, " has no etag; leave it out, or name its devices"),
          {},
          {{"field", "mutation.etag"}}};
}

std::string HashRequest(absl::string_view type, const std::string& bytes) {
  const std::string all = absl::StrCat(type, "\n", bytes);
  unsigned char hash[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(all.data()), all.size(), hash);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(hash), 16));
}

Error OtherRequestWithKey(const std::string& key) {
  return {
      kInvalidParameter,
      absl::StrCat("mutation.idempotency_key \"", key, "\" was used for another request; use a new key for a new one"),
      {},
      {{"field", "mutation.idempotency_key"}}};
}

Error StoreUnavailable(const absl::Status& why) {
  const bool full = absl::IsResourceExhausted(why);
  return {kStoreUnavailable,
          absl::StrCat("the scheduler cannot write down what was asked (",
                       full ? "the disk of its state folder is full" : "its state folder fails; see its log",
                       "), so nothing was changed; ", full ? "make room there" : "mend it", " and ask again")};
}

}  // namespace tandem::scheduler
