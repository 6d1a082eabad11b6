#include "base/prefix_hash/prefix_hash.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/prefix_landmarks.h"

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

std::vector<PrefixHash> Chain(absl::string_view salt, absl::Span<const int32_t> tokens) {
  std::vector<PrefixHash> chain;
  for (size_t at = 0; at + 16 <= tokens.size(); at += 16) {
    chain.push_back(HashPrefixBlock(chain.empty() ? nullptr : &chain.back(), salt, tokens.subspan(at, 16)));
  }
  return chain;
}

// Computed with Python's hashlib from the words of the header: other programs must be able to make the same.
TEST(PrefixHash, IsTheOneThatTheProtocolNames) {
  const std::vector<PrefixHash> hashes = Chain(kSalt, Tokens(32));
  ASSERT_EQ(hashes.size(), 2u);
  EXPECT_EQ(Hex(hashes[0]), "e8ceb4af7cfe407945338cfc0dcd15a9");
  EXPECT_EQ(Hex(hashes[1]), "331bfd83d16e56f35791327da2c800f2");
}

TEST(PrefixHash, ABlockKnowsAllThatStandsBeforeIt) {
  std::vector<int32_t> other = Tokens(32);
  other[0] = 7;
  const std::vector<PrefixHash> a = Chain(kSalt, Tokens(32));
  const std::vector<PrefixHash> b = Chain(kSalt, other);
  EXPECT_NE(a[0], b[0]);
  EXPECT_NE(a[1], b[1]);
}

TEST(PrefixHash, TenantsDoNotShare) {
  EXPECT_NE(Chain("a", Tokens(16))[0], Chain("b", Tokens(16))[0]);
  EXPECT_NE(Chain("", Tokens(16))[0], Chain("a", Tokens(16))[0]);
}

TEST(PrefixLandmarks, AreTheNamesOfSomeBlocks) {
  const std::vector<int32_t> tokens = Tokens(16 * 8300 + 15);
  const std::vector<PrefixHash> chain = Chain(kSalt, tokens);
  const std::vector<uint64_t> landmarks = PrefixLandmarks(kSalt, tokens);
  ASSERT_EQ(landmarks.size(), kLandmarkBlocks.size()) << "a long prompt has no more of them";
  for (size_t i = 0; i < landmarks.size(); ++i) EXPECT_EQ(landmarks[i], LandmarkOf(chain[kLandmarkBlocks[i] - 1])) << i;
  EXPECT_EQ(LandmarkOf(chain[0]), 0x7940fe7cafb4cee8u) << "the first eight bytes, lowest first";
}

TEST(PrefixLandmarks, OnlyFullBlocksHaveOne) {
  EXPECT_TRUE(PrefixLandmarks(kSalt, Tokens(0)).empty());
  EXPECT_TRUE(PrefixLandmarks(kSalt, Tokens(15)).empty());
  EXPECT_TRUE(PrefixLandmarks(kSalt, Tokens(31)).empty());
  EXPECT_EQ(PrefixLandmarks(kSalt, Tokens(16 * 7 + 15)).size(), 2u) << "after 4 blocks comes the one of 8";
}

TEST(PrefixLandmarks, ALongerPromptBeginsWithThoseOfTheShorter) {
  const std::vector<uint64_t> shorter = PrefixLandmarks(kSalt, Tokens(16 * 9));
  const std::vector<uint64_t> longer = PrefixLandmarks(kSalt, Tokens(800));
  ASSERT_EQ(shorter.size(), 3u);
  EXPECT_TRUE(std::equal(shorter.begin(), shorter.end(), longer.begin()));
}

}  // namespace
}  // namespace tandem
