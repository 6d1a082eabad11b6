#include "base/security/priority_bound.h"

#include <gtest/gtest.h>

namespace tandem::security {
namespace {

TEST(PriorityBound, IsAWordWithANumberThatARequestCanHave) {
  EXPECT_EQ(ReadHighestPriority("highest_priority=10"), 10);
  EXPECT_EQ(ReadHighestPriority("highest_priority=-100"), -100);
  for (const char* word : {"", "highest_priority", "highest_priority=", "highest_priority=x", "highest_priority=101",
                           "highest_priority=-101", "priority=1"}) {
    EXPECT_EQ(ReadHighestPriority(word), std::nullopt) << word;
  }
}

TEST(PriorityBound, WhoAsksForNothingIsNeverRefused) {
  EXPECT_EQ(PriorityWithin(100, 0), 0);
  EXPECT_EQ(PriorityWithin(10, 0), 0) << "a bound is no wish";
  EXPECT_EQ(PriorityWithin(-10, 0), -10);
  EXPECT_EQ(PriorityWithin(10, 10), 10);
  EXPECT_EQ(PriorityWithin(10, -7), -7);
  EXPECT_EQ(PriorityWithin(10, 11), std::nullopt);
  EXPECT_EQ(PriorityWithin(-10, -9), std::nullopt);
}

}  // namespace
}  // namespace tandem::security
