#include "scheduler/journal_writer.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "absl/time/clock.h"

namespace tandem::scheduler {
namespace {

using Takes = JournalWriter::Takes;

class JournalWriterTest : public ::testing::Test {
 protected:
  JournalWriterTest() : dir_(std::string(::testing::TempDir()) + "journal-writer-" + std::to_string(getpid())) {
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_);
  }
  ~JournalWriterTest() override { std::filesystem::remove_all(dir_); }

  JournalWriter::Options Options(absl::Duration pause) const {
    return {.folder = dir_, .leader_epoch = 7, .most_waiting = 1000, .pause = pause};
  }
  std::string Segment(int number) const { return dir_ + "/journal-7-" + std::to_string(number) + ".log"; }
  std::string Text(int number) const {
    std::ifstream file(Segment(number));
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }

  const std::string dir_;
};

TEST_F(JournalWriterTest, WritesInOrderAndTheRestAtTheEnd) {
  {
    JournalWriter writer(Options(absl::InfiniteDuration()));
    EXPECT_EQ(writer.takes(), Takes::kSegment);
    writer.Append("nobody opened a segment for this\n");
    writer.BeginSegment("first\n");
    EXPECT_EQ(writer.takes(), Takes::kText);
    writer.Append("a\n");
    writer.Sync();
    EXPECT_EQ(Text(1), "first\na\n");
    writer.Append("b\n");
    writer.BeginSegment("second\n");
    writer.Append("c\n");
  }
  EXPECT_EQ(Text(1), "first\na\nb\n");
  EXPECT_EQ(Text(2), "second\nc\n");
}

TEST_F(JournalWriterTest, ADiskThatFailsCostsAStretch) {
  JournalWriter writer(Options(absl::ZeroDuration()));
  std::filesystem::remove_all(dir_);
  writer.BeginSegment("lost\n");
  writer.Sync();
  std::filesystem::create_directories(dir_);
  ASSERT_EQ(writer.takes(), Takes::kSegment);
  writer.Append("lost too: it belongs to the segment that failed\n");
  writer.BeginSegment("again\n");
  writer.Sync();
  EXPECT_EQ(Text(2), "again\n");
}

TEST_F(JournalWriterTest, AfterAFailureThereIsAPause) {
  JournalWriter writer(Options(absl::InfiniteDuration()));
  std::filesystem::remove_all(dir_);
  writer.BeginSegment("lost\n");
  writer.Sync();
  EXPECT_EQ(writer.takes(), Takes::kNothing);
}

// To open a pipe takes until somebody reads it: so long this disk stands still.
TEST_F(JournalWriterTest, ADiskThatStandsStillHoldsUpNobody) {
  ASSERT_EQ(mkfifo(Segment(1).c_str(), 0600), 0);
  JournalWriter writer(Options(absl::ZeroDuration()));
  // What it throws away before the thread has taken anything is no sign of a disk that stands still.
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (writer.takes() != Takes::kNothing && absl::Now() < deadline) {
    writer.takes() == Takes::kSegment ? writer.BeginSegment("stuck\n") : writer.Append(std::string(10, 'x'));
    std::this_thread::yield();
  }
  EXPECT_EQ(writer.takes(), Takes::kNothing);
  {
    std::ifstream reader(Segment(1));
    writer.Sync();
  }
  ASSERT_EQ(writer.takes(), Takes::kSegment);
  writer.BeginSegment("moves\n");
  writer.Sync();
  EXPECT_EQ(Text(2), "moves\n");
}

}  // namespace
}  // namespace tandem::scheduler
