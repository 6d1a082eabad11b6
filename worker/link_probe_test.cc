// Two workers of one process: each with its door and its engine's word on what it does.
#include "worker/link_probe.h"

#include <condition_variable>
#include <mutex>
#include <optional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/comm/group_bootstrap.h"
#include "worker/comm/rendezvous.h"

namespace tandem::worker {
namespace {

using testing::HasSubstr;

class End {
 public:
  End() : rendezvous_(*Rendezvous::Start()), probe_(MakeOptions()) {}

  void Measure(int rank, const End& zero, const End& one) {
    ProbeOrder order{.probe = 7, .peer_uuid = "peer"};
    order.identity = {.group_id = 7,
                      .epoch = {1, 1},
                      .rank = rank,
                      .size = 2,
                      .endpoints = {zero.rendezvous_->endpoint(), one.rendezvous_->endpoint()},
                      .deadline = absl::Seconds(10)};
    probe_.Measure(order);
  }
  ProbeReport Await() {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [this] { return report_.has_value(); });
    return *std::exchange(report_, std::nullopt);
  }
  void Occupy(const std::string& what) {
    std::lock_guard lock(mu_);
    occupied_ = what;
  }
  LinkProbe& probe() { return probe_; }

 private:
  LinkProbe::Options MakeOptions() {
    return {.join =
                [this](const GroupIdentity& identity, const std::atomic<bool>* cancelled) {
                  return JoinGroup(*rendezvous_, identity, {.call_timeout = absl::Seconds(10), .cancelled = cancelled});
                },
            .occupied =
                [this] {
                  std::lock_guard lock(mu_);
                  return occupied_;
                },
            .report =
                [this](const ProbeReport& report) {
                  std::lock_guard lock(mu_);
                  report_ = report;
                  changed_.notify_all();
                }};
  }

  std::mutex mu_;
  std::condition_variable changed_;
  std::string occupied_;
  std::optional<ProbeReport> report_;
  const std::unique_ptr<Rendezvous> rendezvous_;
  LinkProbe probe_;
};

TEST(LinkProbeTest, BothEndsFindTheSameRoad) {
  End a, b;
  for (int round = 0; round < 2; ++round) {  // a probe leaves nothing that the next one would meet
    a.Measure(0, a, b);
    b.Measure(1, a, b);
    const ProbeReport report = a.Await();
    ASSERT_TRUE(report.figures.ok()) << report.figures.status();
    EXPECT_GT(report.figures->small_ns, 100);
    EXPECT_GT(report.figures->bytes_per_second, 10'000'000);
    EXPECT_TRUE(b.Await().figures.ok());
    if (round == 0) a.probe().Break("nothing is under way");
  }
}

TEST(LinkProbeTest, WorkGoesFirst) {
  End a, b;
  b.Occupy("group 3 epoch 1.3 computes here");
  b.Measure(1, a, b);
  EXPECT_THAT(std::string(b.Await().figures.status().message()), HasSubstr("computes here"));
  // The other end waits for it until work comes there too.
  a.Measure(0, a, b);
  a.Measure(0, a, b);
  EXPECT_THAT(std::string(a.Await().figures.status().message()), HasSubstr("another probe is under way"));
  a.probe().Break("a request came");
  EXPECT_EQ(a.Await().figures.status().message(), "a request came");
}

TEST(LinkProbeTest, AStoppedProbeRefuses) {
  End a, b;
  a.probe().Stop();
  a.Measure(0, a, b);
  EXPECT_THAT(std::string(a.Await().figures.status().message()), HasSubstr("this worker stops"));
}

}  // namespace
}  // namespace tandem::worker
