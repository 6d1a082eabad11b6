#include "scheduler/core/output_history.h"

#include "gtest/gtest.h"

namespace tandem::core {
namespace {

TEST(OutputHistoryTest, SaysTheDefaultBeforeItKnows) {
  OutputHistory history;
  for (uint32_t i = 0; i + 1 < OutputHistory::kEnough; ++i) history.Add({7});
  EXPECT_EQ(history.P90({256}), Tokens{256});
  history.Add({7});
  EXPECT_EQ(history.P90({256}), Tokens{7});
}

TEST(OutputHistoryTest, IsNeverBelowAndAtMostAnEighthAbove) {
  for (int64_t scale : {1, 3, 10, 500, 9000}) {
    OutputHistory history;
    for (int64_t i = 1; i <= 100; ++i) history.Add({i * scale});
    EXPECT_GE(history.P90({0}).value, 90 * scale);
    EXPECT_LE(history.P90({0}).value, 90 * scale * 9 / 8);
  }
}

TEST(OutputHistoryTest, ForgetsWhatWasLongAgo) {
  OutputHistory history;
  for (int i = 0; i < 1000; ++i) history.Add({2000});
  for (int i = 0; i < 20000; ++i) history.Add({10});
  EXPECT_EQ(history.P90({0}), Tokens{10});
}

TEST(OutputHistoryTest, TakesNonsenseForTheNearestSense) {
  OutputHistory history;
  for (int i = 0; i < 20; ++i) history.Add({-5});
  EXPECT_EQ(history.P90({0}), Tokens{1});
  for (int i = 0; i < 2000; ++i) history.Add({INT64_MAX});
  EXPECT_EQ(history.P90({0}), Tokens{(1 << 21) - 1});
}

}  // namespace
}  // namespace tandem::core
