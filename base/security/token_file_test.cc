#include "base/security/token_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace tandem::security {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kOne[] = "aaaaaaaaaaaaaaaaaaaaaaaa", kTwo[] = "b-._~+/=bbbbbbbbbbbbbbbb";

std::string Wrong(const std::string& text) {
  const auto entries = ParseTokenFile(text, "tokens");
  return entries.ok() ? "nothing" : std::string(entries.status().message());
}

TEST(TokenFile, ALineIsANameRolesAndAToken) {
  const auto entries = ParseTokenFile(
      absl::StrCat("# who may\n\n  gateway-1\tclient  ", kOne, "\r\nops@rack/7 admin+viewer ", kTwo), "tokens");
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 2u);
  EXPECT_EQ((*entries)[0].name, "gateway-1");
  EXPECT_EQ((*entries)[0].roles, RoleSet(Role::kClient));
  EXPECT_EQ((*entries)[0].digest, DigestOf(kOne));
  EXPECT_EQ((*entries)[1].name, "ops@rack/7");
  EXPECT_EQ((*entries)[1].roles, Role::kAdmin | RoleSet(Role::kViewer));
}

TEST(TokenFile, TheDigestStandsForTheToken) {
  // printf %s password-of-sixteen | sha256sum
  for (const char* digest : {"5fdb42d7e41aa1b9560b67fc31b9f3e06126ae8e00b860da800f7bb3a70176d2",
                             "5FDB42D7E41AA1B9560B67FC31B9F3E06126AE8E00B860DA800F7BB3A70176D2"}) {
    const auto entries = ParseTokenFile(absl::StrCat("a client sha256:", digest), "tokens");
    ASSERT_TRUE(entries.ok()) << entries.status();
    EXPECT_EQ((*entries)[0].digest, DigestOf("password-of-sixteen"));
  }
}

TEST(TokenFile, ABoundOfPriorityMayStandBehindTheToken) {
  const auto entries =
      ParseTokenFile(absl::StrCat("a client ", kOne, "\nb client ", kTwo, "\thighest_priority=-10\r\n"), "tokens");
  ASSERT_TRUE(entries.ok()) << entries.status();
  EXPECT_EQ((*entries)[0].highest_priority, kHighestPriority);
  EXPECT_EQ((*entries)[1].highest_priority, -10);
}

TEST(TokenFile, OneNameMayHaveAnOldTokenAndANewOne) {
  EXPECT_EQ(Wrong(absl::StrCat("ops admin ", kOne, "\nops admin ", kTwo, "\n")), "nothing");
}

TEST(TokenFile, WhatIsWrongIsSaidByLineAndWithoutTheToken) {
  EXPECT_THAT(Wrong(absl::StrCat("\nops ", kOne)), HasSubstr("tokens:2: a line is NAME ROLES TOKEN, this one has 2"));
  EXPECT_THAT(Wrong(absl::StrCat("ops admin ", kOne, " x")), HasSubstr("behind a token may stand highest_priority=N"));
  EXPECT_THAT(Wrong(absl::StrCat("ops admin ", kOne, " highest_priority=101")), HasSubstr("from -100 to 100"));
  EXPECT_THAT(Wrong(absl::StrCat("ops admin ", kOne, " highest_priority=1 x")), HasSubstr("this one has 5 words"));
  EXPECT_THAT(Wrong("ops admin short"), HasSubstr("16 to 512 characters, this one has 5"));
  EXPECT_THAT(Wrong("ops admin " + std::string(513, 'a')), HasSubstr("this one has 513"));
  EXPECT_THAT(Wrong("ops admin aaaaaaaaaaaaaaaa\"aaaa"), HasSubstr("made of letters"));
  EXPECT_THAT(Wrong("ops admin sha256:aabb"), HasSubstr("64 hex digits"));
  EXPECT_THAT(Wrong(absl::StrCat("a client ", kOne, "\nb client ", kOne)), HasSubstr("tokens:2: the token of line 1"));
  EXPECT_THAT(Wrong(absl::StrCat("o\"ps admin ", kOne)), HasSubstr("a name is"));
  // In the wrong order the token stands where a role should.
  EXPECT_THAT(Wrong(absl::StrCat("ops ", kOne, " admin")), AllOf(HasSubstr("no role"), Not(HasSubstr(kOne))));
  EXPECT_THAT(Wrong(absl::StrCat(kOne, kOne, " admin ", kTwo, " ", kTwo)), Not(HasSubstr(kTwo)));
}

TEST(TokenFile, OnesOwnTokenIsAloneInItsFile) {
  EXPECT_EQ(*ParseOwnToken(absl::StrCat("  ", kOne, "\n"), "own"), kOne);
  const auto two = ParseOwnToken(absl::StrCat(kOne, "\n", kTwo, "\n"), "own");
  EXPECT_THAT(std::string(two.status().message()), AllOf(HasSubstr("own: a token is made of"), Not(HasSubstr(kOne))));
  EXPECT_THAT(std::string(ParseOwnToken("", "own").status().message()), HasSubstr("this one has 0"));
}

}  // namespace
}  // namespace tandem::security
