#include "base/prefix_hash/prefix_hash.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"

namespace tandem {
namespace {

constexpr absl::string_view kSalt = "installation/tenant";

std::vector<int32_t> Tokens(size_t n) {
  std::vector<int32_t> tokens(n);
  std::iota(tokens.begin(), tokens.end(), 0);
  return tokens;
}

std::string Hex(const PrefixHash& hash) {
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(hash.data()), hash.size()));
}

// Computed with Python's hashlib from the words of the header: other programs must be able to make the same.
TEST(PrefixHash, IsTheOneThatTheProtocolNames) {
  const std::vector<PrefixHash> hashes = HashPrefix(kSalt, Tokens(32));
  ASSERT_EQ(hashes.size(), 2u);
  EXPECT_EQ(Hex(hashes[0]), "e8ceb4af7cfe407945338cfc0dcd15a9");
  EXPECT_EQ(Hex(hashes[1]), "331bfd83d16e56f35791327da2c800f2");
}

TEST(PrefixHash, OnlyFullBlocksHaveOne) {
  EXPECT_TRUE(HashPrefix(kSalt, Tokens(0)).empty());
  EXPECT_TRUE(HashPrefix(kSalt, Tokens(15)).empty());
  EXPECT_EQ(HashPrefix(kSalt, Tokens(31)).size(), 1u);
}

TEST(PrefixHash, StopsAtTheLimitOfAnEvent) { EXPECT_EQ(HashPrefix(kSalt, Tokens(16 * 300)).size(), 256u); }

TEST(PrefixHash, ALongerPromptBeginsWithTheHashesOfTheShorter) {
  const std::vector<PrefixHash> shorter = HashPrefix(kSalt, Tokens(48));
  const std::vector<PrefixHash> longer = HashPrefix(kSalt, Tokens(80));
  EXPECT_EQ(std::vector<PrefixHash>(longer.begin(), longer.begin() + 3), shorter);
}

TEST(PrefixHash, ABlockKnowsAllThatStandsBeforeIt) {
  std::vector<int32_t> other = Tokens(32);
  other[0] = 7;
  const std::vector<PrefixHash> a = HashPrefix(kSalt, Tokens(32));
  const std::vector<PrefixHash> b = HashPrefix(kSalt, other);
  EXPECT_NE(a[0], b[0]);
  EXPECT_NE(a[1], b[1]);
}

TEST(PrefixHash, TenantsDoNotShare) {
  EXPECT_NE(HashPrefix("a", Tokens(16))[0], HashPrefix("b", Tokens(16))[0]);
  EXPECT_NE(HashPrefix("", Tokens(16))[0], HashPrefix("a", Tokens(16))[0]);
}

TEST(PrefixHash, BlockByBlockIsTheSame) {
  const std::vector<int32_t> tokens = Tokens(32);
  const std::vector<PrefixHash> hashes = HashPrefix(kSalt, tokens);
  EXPECT_EQ(HashPrefixBlock(nullptr, kSalt, absl::MakeSpan(tokens).subspan(0, 16)), hashes[0]);
  EXPECT_EQ(HashPrefixBlock(&hashes[0], kSalt, absl::MakeSpan(tokens).subspan(16, 16)), hashes[1]);
}

}  // namespace
}  // namespace tandem
