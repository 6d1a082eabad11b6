#include "base/prefix_hash/prefix_hash.h"

#include <glog/logging.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include <algorithm>
#include <memory>

namespace tandem {
namespace {

// One digest context for a whole chain: making one costs as much as hashing a block.
class Hasher {
 public:
  Hasher() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) { CHECK(context_ != nullptr); }

  PrefixHash Hash(const PrefixHash& parent, absl::string_view salt, absl::Span<const int32_t> tokens) {
    CHECK_EQ(tokens.size(), kPrefixBlockTokens);
    std::array<uint8_t, kPrefixBlockTokens * 4> ids;
    for (size_t i = 0; i < tokens.size(); ++i) {
      const auto id = static_cast<uint32_t>(tokens[i]);
      for (size_t b = 0; b < 4; ++b) ids[i * 4 + b] = static_cast<uint8_t>(id >> (8 * b));
    }
    std::array<uint8_t, SHA256_DIGEST_LENGTH> digest;
    CHECK(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1 &&
          EVP_DigestUpdate(context_.get(), parent.data(), parent.size()) == 1 &&
          EVP_DigestUpdate(context_.get(), salt.data(), salt.size()) == 1 &&
          EVP_DigestUpdate(context_.get(), ids.data(), ids.size()) == 1 &&
          EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr) == 1)
        << "SHA-256 is not available";
    PrefixHash hash;
    std::copy_n(digest.begin(), hash.size(), hash.begin());
    return hash;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace

PrefixHash HashPrefixBlock(const PrefixHash* parent, absl::string_view salt, absl::Span<const int32_t> tokens) {
  return Hasher().Hash(parent == nullptr ? PrefixHash{} : *parent, salt, tokens);
}

std::vector<PrefixHash> PrefixBlocks(absl::string_view salt, absl::Span<const int32_t> tokens) {
  std::vector<PrefixHash> hashes;
  Hasher hasher;
  PrefixHash hash{};
  for (; tokens.size() >= kPrefixBlockTokens; tokens.remove_prefix(kPrefixBlockTokens)) {
    hash = hasher.Hash(hash, salt, tokens.first(kPrefixBlockTokens));
    hashes.push_back(hash);
  }
  return hashes;
}

std::vector<uint64_t> PrefixLandmarks(absl::string_view salt, absl::Span<const int32_t> tokens) {
  std::vector<uint64_t> landmarks;
  Hasher hasher;
  PrefixHash hash{};
  size_t hashed = 0;
  for (const int32_t blocks : kLandmarkBlocks) {
    if (static_cast<size_t>(blocks) * kPrefixBlockTokens > tokens.size()) break;
    for (; hashed < static_cast<size_t>(blocks); ++hashed) {
      hash = hasher.Hash(hash, salt, tokens.subspan(hashed * kPrefixBlockTokens, kPrefixBlockTokens));
    }
    landmarks.push_back(LandmarkOf(hash));
  }
  return landmarks;
}

}  // namespace tandem
