#include "base/security/pem_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/security/test_pair.h"

namespace tandem::security {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PemFilesTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return folder_.Path(name); }
  std::string Write(const std::string& name, const std::string& text) const { return folder_.Write(name, text); }
  DoorSettings Make(const std::string& name, absl::Duration from, absl::Duration until) const {
    return folder_.Make(name, from, until);
  }

  std::string Wrong(const DoorSettings& door) {
    return std::string(CheckDoorFiles(door, absl::Now(), &warnings_).message());
  }

  const absl::Duration day_ = absl::Hours(24);
  TestFolder folder_;
  std::vector<std::string> warnings_;
};

TEST_F(PemFilesTest, APairThatFitsAndIsValidSaysNothing) {
  DoorSettings door = Make("server", -day_, 100 * day_);
  door.client_ca = door.certificate;
  EXPECT_EQ(Wrong(door), "");
  EXPECT_THAT(warnings_, IsEmpty());
  const auto facts = ReadCertificate(door.certificate);
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(facts->subject, "CN=server");
  EXPECT_NEAR(absl::ToDoubleSeconds(facts->not_after - absl::Now()), 100 * 86400, 60);
}

TEST_F(PemFilesTest, WhatIsWrongIsNamedWithItsFile) {
  const DoorSettings good = Make("server", -day_, 100 * day_), other = Make("other", -day_, 100 * day_);
  EXPECT_THAT(Wrong({.certificate = Path("none.crt"), .key = good.key}),
              AllOf(HasSubstr("certificate " + Path("none.crt")), HasSubstr("No such file")));
  EXPECT_THAT(Wrong({.certificate = Path(""), .key = good.key}), HasSubstr("not a file"));
  EXPECT_THAT(Wrong({.certificate = Write("text", "hello\n"), .key = good.key}),
              HasSubstr("no certificate in PEM form"));
  EXPECT_THAT(Wrong({.certificate = good.certificate, .key = good.certificate}),
              HasSubstr("no private key in PEM form"));
  EXPECT_THAT(Wrong({.certificate = good.certificate, .key = other.key}),
              HasSubstr(absl::StrCat("key ", other.key, ": not the key of certificate ", good.certificate)));
  EXPECT_THAT(Wrong(Make("old", -2 * day_, -day_)), HasSubstr("expired at"));
  EXPECT_THAT(Wrong(Make("early", day_, 2 * day_)), HasSubstr("not valid before"));
  EXPECT_THAT(Wrong({.certificate = good.certificate, .key = good.key, .client_ca = Write("empty", "")}),
              HasSubstr("client_ca " + Path("empty")));
}

TEST_F(PemFilesTest, AKeyThatOthersReadAndAnEndThatIsNearAreToldAndNoMore) {
  const DoorSettings door = Make("server", -day_, 3 * day_);
  chmod(door.key.c_str(), 0644);
  EXPECT_EQ(Wrong(door), "");
  EXPECT_THAT(warnings_,
              ElementsAre(HasSubstr("(CN=server) expires at"), HasSubstr("others than its owner may read it")));
  warnings_.clear();
  chmod(door.key.c_str(), 0640);
  EXPECT_EQ(Wrong(door), "");
  EXPECT_EQ(warnings_.size(), 1u) << "a group that the owner chose may read it";
}

TEST_F(PemFilesTest, WhoDialsHasItsTokenLookedAt) {
  const std::string ca = Make("ca", -day_, 100 * day_).certificate;
  const auto wrong = [&](const std::string& token) {
    return std::string(
        CheckDialFiles({.ca = ca, .token_file = Write("token", token)}, absl::Now(), &warnings_).message());
  };
  EXPECT_EQ(wrong("0123456789abcdef\n"), "");
  EXPECT_THAT(wrong("short"), AllOf(HasSubstr(Path("token")), HasSubstr("this one has 5")));
  EXPECT_THAT(std::string(CheckDialFiles({.ca = Path("no")}, absl::Now(), &warnings_).message()),
              HasSubstr("ca " + Path("no")));
}

}  // namespace
}  // namespace tandem::security
