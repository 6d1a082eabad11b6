#include "base/security/identity_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::security {
namespace {

using ::testing::HasSubstr;

IdentityRule Rule(const char* text) {
  const auto rule = ParseIdentityRule(text);
  EXPECT_TRUE(rule.ok()) << rule.status();
  return rule.ok() ? *rule : IdentityRule{};
}
std::string Wrong(const char* text) {
  const auto rule = ParseIdentityRule(text);
  return rule.ok() ? "nothing" : std::string(rule.status().message());
}

TEST(IdentityRules, ANameIsMetAsAWholeOrUpToItsStar) {
  EXPECT_TRUE(Matches(Rule("ops@example.org=admin"), "ops@example.org"));
  EXPECT_FALSE(Matches(Rule("ops@example.org=admin"), "ops@example.organ"));
  EXPECT_TRUE(Matches(Rule("*.workers.rack7=worker"), "w3.workers.rack7"));
  EXPECT_FALSE(Matches(Rule("*.workers.rack7=worker"), "w3.workers.rack7.evil.org"));
  EXPECT_FALSE(Matches(Rule("*.workers.rack7=worker"), ".workers.rack7")) << "* is not nothing";
  EXPECT_TRUE(Matches(Rule("spiffe://rack7/worker/*=worker"), "spiffe://rack7/worker/3"));
  EXPECT_FALSE(Matches(Rule("spiffe://rack7/worker/*=worker"), "spiffe://rack8/worker/3"));
  EXPECT_TRUE(Matches(Rule("*=client"), "whoever"));
}

TEST(IdentityRules, AllRulesOfANameCount) {
  const std::vector<IdentityRule> rules = {Rule("*.rack7=viewer"), Rule("head.rack7=worker+client")};
  EXPECT_EQ(GrantOf(rules, "head.rack7").roles.ToString(), "client+worker+viewer");
  EXPECT_EQ(GrantOf(rules, "other.rack7").roles.ToString(), "viewer");
  EXPECT_TRUE(GrantOf(rules, "head.rack8").roles.empty());
}

TEST(IdentityRules, ABoundOfPriorityStandsBehindTheRoles) {
  EXPECT_EQ(Rule("a=client").highest_priority, kHighestPriority);
  const IdentityRule nightly = Rule("CN of two words=client  highest_priority=-10");
  EXPECT_EQ(nightly.name, "CN of two words");
  EXPECT_EQ(nightly.highest_priority, -10);
  EXPECT_EQ(nightly.ToString(), "CN of two words=client highest_priority=-10");
  EXPECT_EQ(Rule("a=client").ToString(), "a=client");
  const std::vector<IdentityRule> rules = {Rule("*.rack7=viewer"), Rule("a.rack7=client highest_priority=-10"),
                                           Rule("a.*=client highest_priority=5")};
  EXPECT_EQ(GrantOf(rules, "a.rack7").highest_priority, 5) << "the highest, but not that of who may only look";
  EXPECT_EQ(GrantOf(rules, "a.rack8").highest_priority, 5);
}

TEST(IdentityRules, WhatIsNoRuleIsSaid) {
  EXPECT_THAT(Wrong("ops"), HasSubstr("write NAME=ROLES"));
  EXPECT_THAT(Wrong("=admin"), HasSubstr("write NAME=ROLES"));
  EXPECT_THAT(Wrong("ops=root"), HasSubstr("\"root\" is not a role; there are client, worker, admin and viewer"));
  EXPECT_THAT(Wrong("ops="), HasSubstr("is not a role"));
  EXPECT_THAT(Wrong("a*b=admin"), HasSubstr("one * may stand"));
  EXPECT_THAT(Wrong("*a*=admin"), HasSubstr("one * may stand"));
}

}  // namespace
}  // namespace tandem::security
