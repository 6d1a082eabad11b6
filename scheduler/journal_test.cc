#include "scheduler/journal.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "absl/strings/match.h"
#include "scheduler/core/dump.h"
#include "scheduler/core/format.h"

namespace tandem::scheduler {
namespace {

using core::Event;

class JournalTest : public ::testing::Test {
 protected:
  JournalTest() : dir_(std::string(::testing::TempDir()) + "journal-" + std::to_string(getpid())) {
    std::filesystem::remove_all(dir_);
  }
  ~JournalTest() override { std::filesystem::remove_all(dir_); }

  std::unique_ptr<Journal> Open(size_t segment_bytes = 1 << 20, int segments = 8) {
    auto journal = Journal::Open({dir_, "test", 7, segment_bytes, segments});
    EXPECT_TRUE(journal.ok()) << journal.status();
    return *std::move(journal);
  }
  std::string Segment(int number) const { return dir_ + "/journal-7-" + std::to_string(number) + ".log"; }

  // Steps a core as the loop does; what it decided, a line each.
  void Live(Journal* journal, core::Core* core, const std::vector<Event>& events) {
    for (const Event& event : events) {
      now_.us += 1000;
      journal->Append(now_, event, *core);
      for (const auto& action : core->Step(now_, event)) decided_.push_back(core::Format(action));
    }
    journal->Sync();
  }
  static std::vector<Event> SomeLife(int requests) {
    core::ModelSpec spec;
    spec.name = "tiny model";  // a blank has to survive the text
    spec.max_model_len = 100;
    spec.costs = {{1, "", {1 << 20}, {1024}}};
    std::vector<Event> events = {core::LeaderStarted{7, 1}, core::ModelConfigured{spec}};
    for (int i = 0; i < requests; ++i) {
      core::RequestArrived arrived;
      arrived.request = {1, static_cast<uint64_t>(i)};
      arrived.model = i % 3 == 0 ? "other" : "tiny model";
      arrived.prompt = {10 + i};
      arrived.tenant = "a \"b\"";
      events.push_back(arrived);
      if (i % 4 == 0) events.push_back(core::RequestCancelled{arrived.request});
    }
    events.push_back(core::Ticked{});
    return events;
  }

  const std::string dir_;
  core::Instant now_{1000000};
  std::vector<std::string> decided_;
};

TEST_F(JournalTest, AReplayDecidesTheSame) {
  core::CoreOptions options;
  options.waiting_room_requests = 5;  // is in the journal too
  core::Core core(options);
  auto journal = Open();
  Live(journal.get(), &core, SomeLife(20));
  ASSERT_FALSE(decided_.empty());

  std::vector<std::string> again;
  size_t events = 0;
  const auto replayed = Replay(Segment(1), [&](core::Instant, const std::string&, const core::Actions& actions) {
    ++events;
    for (const auto& action : actions) again.push_back(core::Format(action));
  });
  ASSERT_TRUE(replayed.ok()) << replayed.status();
  EXPECT_EQ(events, SomeLife(20).size());
  EXPECT_EQ(again, decided_);
  EXPECT_EQ((*replayed)->state().options.waiting_room_requests, 5);
  EXPECT_EQ(core::StateHash((*replayed)->state()), core::StateHash(core.state()));
}

TEST_F(JournalTest, EverySegmentReplaysAlone) {
  core::Core core{core::CoreOptions{}};
  auto journal = Open(/*segment_bytes=*/1000);
  Live(journal.get(), &core, SomeLife(30));
  int number = 1;
  while (std::filesystem::exists(Segment(number + 1))) std::filesystem::remove(Segment(number++));
  ASSERT_GT(number, 2);
  std::vector<std::string> last;
  const auto replayed = Replay(Segment(number), [&](core::Instant, const std::string&, const core::Actions& actions) {
    for (const auto& action : actions) last.push_back(core::Format(action));
  });
  ASSERT_TRUE(replayed.ok()) << replayed.status();
  ASSERT_LE(last.size(), decided_.size());
  EXPECT_TRUE(std::equal(last.rbegin(), last.rend(), decided_.rbegin()));
  EXPECT_EQ(core::StateHash((*replayed)->state()), core::StateHash(core.state()));
}

TEST_F(JournalTest, KeepsABoundedNumberOfSegments) {
  core::Core core{core::CoreOptions{}};
  auto journal = Open(/*segment_bytes=*/500, /*segments=*/3);
  Live(journal.get(), &core, SomeLife(40));
  int found = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(dir_)) ++found;
  EXPECT_EQ(found, 3);
  EXPECT_FALSE(std::filesystem::exists(Segment(1)));
}

TEST_F(JournalTest, ALineCutByACrashIsLeftOut) {
  core::Core core{core::CoreOptions{}};
  auto journal = Open();
  Live(journal.get(), &core, SomeLife(3));
  std::ofstream(Segment(1), std::ios::app) << "1009000 request-arr";
  size_t events = 0;
  const auto replayed = Replay(Segment(1), [&](auto, const auto&, const auto&) { ++events; });
  ASSERT_TRUE(replayed.ok()) << replayed.status();
  EXPECT_EQ(events, SomeLife(3).size());
}

TEST_F(JournalTest, ABadLineIsNamed) {
  core::Core core{core::CoreOptions{}};
  auto journal = Open();
  Live(journal.get(), &core, SomeLife(1));
  std::ofstream(Segment(1), std::ios::app) << "nonsense here\n";
  const auto replayed = Replay(Segment(1), [](auto, const auto&, const auto&) {});
  ASSERT_FALSE(replayed.ok());
  EXPECT_TRUE(absl::StrContains(replayed.status().message(), "journal-7-1.log:")) << replayed.status();
  EXPECT_FALSE(Replay(dir_ + "/nothing", [](auto, const auto&, const auto&) {}).ok());
}

}  // namespace
}  // namespace tandem::scheduler
