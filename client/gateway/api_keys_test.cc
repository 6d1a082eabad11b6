#include "client/gateway/api_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace tandem::gateway {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class ApiKeysTest : public ::testing::Test {
 protected:
  ApiKeysTest() : path_(::testing::TempDir() + "/keys-" + std::to_string(getpid())) {}
  ~ApiKeysTest() override { std::filesystem::remove(path_); }

  // As an editor or a mounted secret does: another file in the place of this one.
  void Put(const std::string& text) {
    std::ofstream(path_ + ".new", std::ios::binary) << text;
    std::filesystem::rename(path_ + ".new", path_);
  }
  static std::optional<std::string> TenantOf(ApiKeys& keys, const std::string& key, absl::Time now) {
    const auto caller = keys.CallerOf(key, now);
    return caller.has_value() ? std::optional(caller->tenant) : std::nullopt;
  }
  // Asks at a later second each time.
  std::optional<std::string> Ask(ApiKeys& keys, const std::string& key) {
    now_ += absl::Seconds(2);
    return TenantOf(keys, key, now_);
  }
  static std::string Wrong(const std::string& text) { return std::string(ApiKeys::Parse(text).status().message()); }

  const std::string path_;
  absl::Time now_ = absl::UnixEpoch();
};

TEST_F(ApiKeysTest, EachKeyHasItsTenant) {
  Put("# who\n\nretrieval:sk-1\r\n agents:sk-2\nagents:a:b\n");
  ApiKeys keys({"plain"}, path_);
  ASSERT_TRUE(keys.Load().ok());
  EXPECT_TRUE(keys.required());
  EXPECT_EQ(keys.size(), 4u);
  EXPECT_EQ(Ask(keys, "sk-1"), "retrieval");
  EXPECT_EQ(Ask(keys, "sk-2"), "agents");
  EXPECT_EQ(Ask(keys, "a:b"), "agents") << "a key may hold a colon";
  EXPECT_EQ(Ask(keys, "plain"), "") << "a key of the flags has no name";
  for (const char* none : {"", "sk-", "sk-12", "retrieval:sk-1", "SK-1"}) EXPECT_EQ(Ask(keys, none), std::nullopt);
}

TEST_F(ApiKeysTest, AKeySaysHowFarItsRequestsMayGoBeforeOthers) {
  Put("many:k1\noncall:k2 highest_priority=10\nnight:k3\thighest_priority=-5\n");
  ApiKeys keys({"operator"}, path_);
  ASSERT_TRUE(keys.Load().ok());
  EXPECT_EQ(keys.CallerOf("k1", now_)->highest_priority, 0) << "as everybody, where its line says nothing";
  EXPECT_EQ(keys.CallerOf("k2", now_)->highest_priority, 10);
  EXPECT_EQ(keys.CallerOf("k3", now_)->highest_priority, -5);
  EXPECT_EQ(keys.CallerOf("operator", now_)->highest_priority, security::kHighestPriority);
}

TEST_F(ApiKeysTest, WithoutKeysNobodyNeedsOne) {
  ApiKeys keys({}, "");
  EXPECT_TRUE(keys.Load().ok());
  EXPECT_FALSE(keys.required());
}

TEST_F(ApiKeysTest, AKeyIsReplacedWhileItRuns) {
  Put("a:old\n");
  ApiKeys keys({}, path_);
  ASSERT_TRUE(keys.Load().ok());
  Put("a:old\na:new\n");
  EXPECT_EQ(Ask(keys, "new"), "a");
  EXPECT_EQ(Ask(keys, "old"), "a");
  Put("a:new\n");
  EXPECT_EQ(Ask(keys, "old"), std::nullopt);
  EXPECT_EQ(Ask(keys, "new"), "a");
}

TEST_F(ApiKeysTest, AChangeIsSeenWithinASecondAndNotLookedForMoreOften) {
  Put("a:old\n");
  ApiKeys keys({}, path_);
  ASSERT_TRUE(keys.Load().ok());
  EXPECT_EQ(TenantOf(keys, "old", now_), "a");
  Put("a:new\n");
  EXPECT_EQ(TenantOf(keys, "new", now_ + absl::Milliseconds(900)), std::nullopt);
  EXPECT_EQ(TenantOf(keys, "new", now_ + absl::Milliseconds(1000)), "a");
}

TEST_F(ApiKeysTest, AFileThatGoesBadChangesNothing) {
  Put("a:good\n");
  ApiKeys keys({}, path_);
  ASSERT_TRUE(keys.Load().ok());
  for (const char* bad : {"", "no colon", "a:good\nb:good\n"}) {
    Put(bad);
    EXPECT_EQ(Ask(keys, "good"), "a") << bad;
  }
  std::filesystem::remove(path_);
  EXPECT_EQ(Ask(keys, "good"), "a");
  Put("b:better\n");
  EXPECT_EQ(Ask(keys, "better"), "b");
  EXPECT_EQ(Ask(keys, "good"), std::nullopt);
}

TEST_F(ApiKeysTest, MistakesNameTheLineAndQuoteNoKey) {
  EXPECT_THAT(Wrong("a:x\nsecret\n"), HasSubstr("line 2: expected NAME:KEY"));
  EXPECT_THAT(Wrong(":secret"), HasSubstr("line 1: a tenant's name"));
  EXPECT_THAT(Wrong("a b:secret"), HasSubstr("a tenant's name"));
  EXPECT_THAT(Wrong(std::string(65, 'a') + ":secret"), HasSubstr("a tenant's name"));
  EXPECT_THAT(Wrong("a:"), HasSubstr("a key has"));
  for (const char* rest : {"ret", "highest_priority", "highest_priority=", "highest_priority=ret",
                           "highest_priority=101", "highest_priority=-101", "highest_priority=1 more"}) {
    EXPECT_THAT(Wrong(absl::StrCat("a:sec ", rest)), HasSubstr("line 1: after a key may stand highest_priority=N"));
  }
  EXPECT_THAT(Wrong("a:" + std::string(513, 's')), HasSubstr("a key has"));
  EXPECT_THAT(Wrong("a:secret\nb:secret"), HasSubstr("line 2: this key stands there already"));
  EXPECT_THAT(Wrong("# nothing\n"), HasSubstr("no key"));
  std::string many;
  for (size_t i = 0; i <= kMostKeys; ++i) absl::StrAppend(&many, "a:", i, "\n");
  EXPECT_THAT(Wrong(many), HasSubstr("more than 4096 keys"));
  for (const char* text : {"a:x\nsecret\n", ":secret", "a:sec ret", "a:secret\nb:secret"}) {
    EXPECT_THAT(Wrong(text), Not(HasSubstr("sec"))) << text;
  }
}

TEST_F(ApiKeysTest, WhatCannotBeReadAtTheStartIsAnError) {
  EXPECT_THAT(ApiKeys({}, path_).Load().message(), HasSubstr("No such file"));
  EXPECT_THAT(ApiKeys({}, ::testing::TempDir()).Load().message(), HasSubstr("is not a file"));
  Put(std::string((1 << 20) + 1, '#'));
  EXPECT_THAT(ApiKeys({}, path_).Load().message(), HasSubstr("larger than 1 MiB"));
}

}  // namespace
}  // namespace tandem::gateway
