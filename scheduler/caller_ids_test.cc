#include "scheduler/caller_ids.h"

#include <gtest/gtest.h>

namespace tandem::scheduler {
namespace {

const std::string kTrace = "4bf92f3577b34da6a3ce929d0e0e4736";

CallerIds Read(const std::string& id, const std::string& traceparent = "") {
  std::multimap<grpc::string_ref, grpc::string_ref> metadata = {{"x-request-id", id}, {"user-agent", "x"}};
  if (!traceparent.empty()) metadata.emplace("traceparent", traceparent);
  return ReadCallerIds(metadata);
}

TEST(CallerIdsTest, AnIdIsTakenAsItIsOrNotAtAll) {
  EXPECT_EQ(Read("mine-1/2:x@y").id, "mine-1/2:x@y");
  EXPECT_EQ(Read(std::string(128, 'a')).id.size(), 128u);
  EXPECT_EQ(Read("").id, "");
  EXPECT_EQ(ReadCallerIds({}).id, "");
  for (const std::string& bad : {std::string(129, 'a'), std::string("a b"), std::string("a\nb"), std::string("a\"b"),
                                 std::string("a\x7f"), std::string("\xC3\xA9"), std::string("a\0b", 3)}) {
    EXPECT_EQ(Read(bad).id, "") << bad;
  }
}

TEST(CallerIdsTest, ATraceIsThatOfAWellFormedTraceparent) {
  EXPECT_EQ(Read("", "00-" + kTrace + "-00f067aa0ba902b7-01").trace, kTrace);
  EXPECT_EQ(Read("", "01-" + kTrace + "-00f067aa0ba902b7-01-later").trace, kTrace) << "of a later version";
  for (const std::string& bad :
       {kTrace, "00-" + kTrace + "-00f067aa0ba902b7-01-more", "ff-" + kTrace + "-00f067aa0ba902b7-01",
        "00-" + std::string(32, '0') + "-00f067aa0ba902b7-01", "00-" + std::string(32, 'A') + "-00f067aa0ba902b7-01",
        "00_" + kTrace + "-00f067aa0ba902b7-01", "00-" + kTrace + "-00f067aa0ba902b7-0\n"}) {
    EXPECT_EQ(Read("", bad).trace, "") << bad;
  }
}

}  // namespace
}  // namespace tandem::scheduler
