#include "worker/comm/group_bootstrap.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "worker/comm/bootstrap_wire.h"
#include "worker/comm/cores.h"

namespace tandem::worker {
namespace {

using ChannelOr = absl::StatusOr<std::unique_ptr<GroupChannel>>;
using std::chrono::steady_clock;

bool Mentions(const absl::Status& status, absl::string_view text) {
  return status.message().find(text) != absl::string_view::npos;
}

size_t OpenDescriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}

// Workers of one process, one Rendezvous each.
class GroupBootstrapTest : public testing::Test {
 protected:
  GroupBootstrapTest() {
    for (int i = 0; i < 3; ++i) workers_.push_back(*Rendezvous::Start());
  }

  GroupIdentity Identity(int rank, int size) {
    GroupIdentity identity;
    identity.group_id = 7;
    identity.epoch = GroupEpoch{3, 5};
    identity.rank = rank;
    identity.size = size;
    identity.secret.fill(0x11);
    for (int r = 0; r < size; ++r) identity.endpoints.push_back(workers_[r]->endpoint());
    identity.deadline = absl::Seconds(30);
    return identity;
  }

  ChannelOr Join(const GroupIdentity& identity, const std::atomic<bool>* cancelled = nullptr) {
    JoinOptions options;
    options.shape.slot_bytes = 4096;
    options.shape.ring_bytes = 4096;
    options.cancelled = cancelled;
    return JoinGroup(*workers_[identity.rank], identity, options);
  }

  // Joins all ranks side by side; the results by rank.
  std::vector<ChannelOr> JoinAll(int size) {
    std::vector<ChannelOr> channels;
    for (int r = 0; r < size; ++r) channels.emplace_back(absl::UnknownError("not run"));
    std::vector<std::thread> threads;
    for (int r = 0; r < size; ++r) threads.emplace_back([&, r] { channels[r] = Join(Identity(r, size)); });
    for (std::thread& thread : threads) thread.join();
    return channels;
  }

  static void ExpectWorks(std::vector<ChannelOr>& channels) {
    std::vector<std::thread> threads;
    for (ChannelOr& channel : channels) {
      ASSERT_EQ(channel.status(), absl::OkStatus());
      threads.emplace_back([&channel] {
        float value = 1;
        EXPECT_EQ((*channel)->communicator().AllReduceSum(absl::MakeSpan(&value, 1)), absl::OkStatus());
        EXPECT_EQ(value, static_cast<float>((*channel)->identity().size));
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  std::vector<std::unique_ptr<Rendezvous>> workers_;
};

TEST_F(GroupBootstrapTest, AGroupFormsAndWorksAndLeavesNoDescriptors) {
  const size_t before = OpenDescriptors();
  for (int round = 0; round < 3; ++round) {
    std::vector<ChannelOr> channels = JoinAll(3);
    ExpectWorks(channels);
  }
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST_F(GroupBootstrapTest, AGroupOfOneSharesNothing) {
  const size_t before = OpenDescriptors();
  ChannelOr channel = Join(Identity(0, 1));
  ASSERT_EQ(channel.status(), absl::OkStatus());
  EXPECT_EQ((*channel)->plans(), nullptr);
  EXPECT_EQ(OpenDescriptors(), before);
  float value = 4;
  EXPECT_EQ((*channel)->communicator().AllReduceSum(absl::MakeSpan(&value, 1)), absl::OkStatus());
  EXPECT_EQ(value, 4);
  (*channel)->Abort("enough");
  EXPECT_TRUE(absl::IsAborted((*channel)->communicator().Barrier()));
}

TEST_F(GroupBootstrapTest, ARankMayComeBeforeRankZero) {
  ChannelOr early = absl::UnknownError("not run");
  std::thread joiner([&] { early = Join(Identity(1, 2)); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // Mostly enough for a first knock at a closed door.
  std::vector<ChannelOr> channels;
  channels.push_back(Join(Identity(0, 2)));
  joiner.join();
  channels.push_back(std::move(early));
  ExpectWorks(channels);
}

TEST_F(GroupBootstrapTest, AWrongSecretIsRefusedAndTheRightOneStillJoins) {
  ChannelOr host = absl::UnknownError("not run");
  std::thread hosting([&] { host = Join(Identity(0, 2)); });
  GroupIdentity wrong = Identity(1, 2);
  wrong.secret[15] ^= 1;
  absl::Status status = Join(wrong).status();
  EXPECT_TRUE(absl::IsPermissionDenied(status)) << status;
  EXPECT_TRUE(Mentions(status, "group 7 epoch 3.5: the secret is wrong")) << status;
  std::vector<ChannelOr> channels;
  channels.push_back(Join(Identity(1, 2)));
  hosting.join();
  channels.push_back(std::move(host));
  ExpectWorks(channels);
}

TEST_F(GroupBootstrapTest, AnOlderEpochIsRefusedForGood) {
  ChannelOr host = absl::UnknownError("not run");
  std::thread hosting([&] { host = Join(Identity(0, 2)); });
  GroupIdentity old = Identity(1, 2);
  old.epoch = GroupEpoch{3, 4};
  old.deadline = absl::Milliseconds(300);
  absl::Status status;
  // Until rank 0 has opened its door, even an old epoch might still come.
  do {
    status = Join(old).status();
  } while (absl::IsDeadlineExceeded(status));
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_TRUE(Mentions(status, "group 7 epoch 3.4 knocks, rank 0 forms epoch 3.5")) << status;
  std::vector<ChannelOr> channels;
  channels.push_back(Join(Identity(1, 2)));
  hosting.join();
  channels.push_back(std::move(host));
  ExpectWorks(channels);
}

TEST_F(GroupBootstrapTest, ANewerEpochWaitsForRankZeroAndSaysWhatItHad) {
  std::atomic<bool> cancel{false};
  absl::Status hosted;
  std::thread hosting([&] { hosted = Join(Identity(0, 2), &cancel).status(); });
  GroupIdentity newer = Identity(1, 2);
  newer.epoch = GroupEpoch{4, 0};
  newer.deadline = absl::Milliseconds(200);
  absl::Status status;
  do {
    status = Join(newer).status();
    ASSERT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  } while (!Mentions(status, "group 7 epoch 4.0 knocks, rank 0 forms epoch 3.5"));
  cancel = true;
  hosting.join();
  EXPECT_TRUE(absl::IsCancelled(hosted)) << hosted;
}

TEST_F(GroupBootstrapTest, AMissingRankIsNamedAtTheDeadlineToEveryone) {
  GroupIdentity identity = Identity(0, 3);
  identity.deadline = absl::Milliseconds(200);
  ChannelOr one = absl::UnknownError("not run");
  std::thread joiner([&] { one = Join(Identity(1, 3)); });
  absl::Status status;
  do {
    status = Join(identity).status();
    ASSERT_TRUE(absl::IsDeadlineExceeded(status)) << status;
    // On a loaded machine rank 1 may miss the first door.
  } while (Mentions(status, "rank 1, 2"));
  joiner.join();
  EXPECT_EQ(status.message(), "group 7 epoch 3.5: rank 2 did not join within 200ms");
  EXPECT_EQ(one.status(), status);
}

TEST_F(GroupBootstrapTest, ADuplicateRankIsRefused) {
  std::atomic<bool> cancel{false};
  std::vector<std::thread> threads;
  threads.emplace_back([&] { Join(Identity(0, 3), &cancel).status().IgnoreError(); });
  std::array<absl::Status, 2> statuses;
  std::atomic<int> refused{0};
  for (absl::Status& status : statuses) {
    threads.emplace_back([&] {
      status = Join(Identity(1, 3), &cancel).status();
      ++refused;
    });
  }
  while (refused == 0) std::this_thread::yield();
  cancel = true;
  for (std::thread& thread : threads) thread.join();
  const bool first = absl::IsAlreadyExists(statuses[0]);
  const absl::Status& status = statuses[first ? 0 : 1];
  EXPECT_TRUE(absl::IsAlreadyExists(status)) << status;
  EXPECT_TRUE(Mentions(status, "rank 1 joined already (pid ")) << status;
  EXPECT_TRUE(absl::IsCancelled(statuses[first ? 1 : 0])) << statuses[first ? 1 : 0];
}

TEST_F(GroupBootstrapTest, ARankThatLeftWhileOthersWereAwaitedMayComeBack) {
  std::vector<ChannelOr> channels;
  for (int r = 0; r < 3; ++r) channels.emplace_back(absl::UnknownError("not run"));
  std::thread hosting([&] { channels[0] = Join(Identity(0, 3)); });
  GroupIdentity hasty = Identity(1, 3);
  hasty.deadline = absl::Milliseconds(50);
  absl::Status status;
  do {
    status = Join(hasty).status();
    ASSERT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  } while (!Mentions(status, "rank 0 was reached"));
  std::thread second([&] { channels[1] = Join(Identity(1, 3)); });
  std::thread third([&] { channels[2] = Join(Identity(2, 3)); });
  for (std::thread* thread : {&hosting, &second, &third}) thread->join();
  ExpectWorks(channels);
}

TEST_F(GroupBootstrapTest, RanksThatDisagreeAboutTheSizeAreRefused) {
  std::atomic<bool> cancel{false};
  std::thread hosting([&] { Join(Identity(0, 2), &cancel).status().IgnoreError(); });
  absl::Status status = Join(Identity(1, 3)).status();
  cancel = true;
  hosting.join();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_TRUE(Mentions(status, "rank 1 of 3 knocks, ranks 1 to 1 of 2 are awaited")) << status;
}

TEST_F(GroupBootstrapTest, GarbageAndSilenceDelayNobody) {
  Rendezvous::Options patient;
  patient.hello_timeout = absl::Minutes(10);
  workers_[0] = *Rendezvous::Start(patient);
  const size_t before = OpenDescriptors();
  {
    std::vector<UniqueFd> crowd;
    for (int i = 0; i < 200; ++i) {
      absl::StatusOr<UniqueFd> socket = ConnectTo(workers_[0]->endpoint());
      if (absl::IsUnavailable(socket.status())) {  // The queue is full for a moment.
        std::this_thread::yield();
        continue;
      }
      ASSERT_EQ(socket.status(), absl::OkStatus());
      // Half of them are silent, the others talk nonsense: too short, too long, and a Hello of another version.
      Hello hello;
      hello.magic ^= 1;
      const std::string nonsense = i % 8 == 1   ? "?"
                                   : i % 8 == 3 ? std::string(100000, 'x')
                                   : i % 8 == 5 ? std::string(sizeof(Hello), '\0')
                                                : std::string(AsBytes(hello).data(), sizeof(hello));
      if (i % 2 == 1) SendPacket(socket->get(), nonsense).IgnoreError();
      crowd.push_back(*std::move(socket));
    }
    const auto begin = steady_clock::now();
    std::vector<ChannelOr> channels = JoinAll(2);
    ExpectWorks(channels);
    EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(25)) << "the silent ones are given minutes";
  }
  workers_.clear();
  EXPECT_LE(OpenDescriptors(), before);
}

TEST_F(GroupBootstrapTest, ASilentConnectionIsClosedAfterItsTime) {
  Rendezvous::Options options;
  options.hello_timeout = absl::Milliseconds(10);
  std::unique_ptr<Rendezvous> rendezvous = *Rendezvous::Start(options);
  absl::StatusOr<UniqueFd> socket = ConnectTo(rendezvous->endpoint());
  ASSERT_EQ(socket.status(), absl::OkStatus());
  const Patience patience{steady_clock::now() + std::chrono::seconds(30)};
  absl::Status status = ReceivePacket(socket->get(), sizeof(Notice), 0, patience).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
}

TEST_F(GroupBootstrapTest, AWorkerThatIsGoneIsReportedAtOnce) {
  GroupIdentity identity = Identity(1, 2);
  workers_[0].reset();
  absl::Status status = Join(identity).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_TRUE(Mentions(status, "the worker of rank 0 is gone")) << status;
}

TEST_F(GroupBootstrapTest, CancellingEndsBothSides) {
  for (int rank : {0, 1}) {
    std::atomic<bool> cancel{false};
    absl::Status status;
    std::thread joiner([&] { status = Join(Identity(rank, 2), &cancel).status(); });
    cancel = true;
    joiner.join();
    EXPECT_TRUE(absl::IsCancelled(status)) << status;
  }
}

TEST_F(GroupBootstrapTest, FieldsOutOfRangeAreNamed) {
  const auto expect = [&](absl::string_view text, void (*change)(GroupIdentity&)) {
    GroupIdentity identity = Identity(0, 2);
    change(identity);
    absl::Status status = JoinGroup(*workers_[0], identity).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_TRUE(Mentions(status, text)) << status;
  };
  expect("size is 17", [](GroupIdentity& identity) { identity.size = kMaxRanks + 1; });
  expect("rank 2 of 2", [](GroupIdentity& identity) { identity.rank = 2; });
  expect("rank -1 of 2", [](GroupIdentity& identity) { identity.rank = -1; });
  expect("1 endpoints for 2 ranks", [](GroupIdentity& identity) { identity.endpoints.pop_back(); });
  expect("endpoint of rank 1 has 0 bytes", [](GroupIdentity& identity) { identity.endpoints[1].clear(); });
  expect("this worker listens at", [](GroupIdentity& identity) { identity.endpoints[0] = identity.endpoints[1]; });
  expect("deadline is 0", [](GroupIdentity& identity) { identity.deadline = absl::ZeroDuration(); });
}

TEST_F(GroupBootstrapTest, AShapeOutOfRangeFailsAllRanks) {
  JoinOptions options;
  options.shape.ring_bytes = 1000;
  absl::Status host, peer;
  std::thread hosting([&] { host = JoinGroup(*workers_[0], Identity(0, 2), options).status(); });
  std::thread joiner([&] { peer = JoinGroup(*workers_[1], Identity(1, 2), options).status(); });
  hosting.join();
  joiner.join();
  EXPECT_TRUE(absl::IsInvalidArgument(host)) << host;
  EXPECT_TRUE(Mentions(host, "ring_bytes is 1000")) << host;
  EXPECT_EQ(peer, host);
}

TEST(SharedRegionTest, AnUnsealedOrShortRegionIsRefused) {
  absl::StatusOr<SharedRegion> region = SharedRegion::Create(8192);
  ASSERT_EQ(region.status(), absl::OkStatus());
  EXPECT_NE(ftruncate(region->fd(), 4096), 0) << "sealed";
  absl::Status status = SharedRegion::Map(UniqueFd(dup(region->fd())), 4096).status();
  EXPECT_TRUE(Mentions(status, "has 8192 bytes, 4096 were announced")) << status;
  UniqueFd open(memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(ftruncate(open.get(), 8192), 0);
  status = SharedRegion::Map(std::move(open), 8192).status();
  EXPECT_TRUE(Mentions(status, "not sealed")) << status;
}

TEST(GroupMemoryTest, AnotherGroupsMemoryIsRefused) {
  GroupShape shape;
  shape.ranks = 2;
  absl::StatusOr<GroupMemory> memory = GroupMemory::Create(shape, 7, GroupEpoch{1, 1});
  ASSERT_EQ(memory.status(), absl::OkStatus());
  EXPECT_EQ(GroupMemory::Open(UniqueFd(dup(memory->fd())), shape, 7, GroupEpoch{1, 1}).status(), absl::OkStatus());
  absl::Status status = GroupMemory::Open(UniqueFd(dup(memory->fd())), shape, 7, GroupEpoch{1, 2}).status();
  EXPECT_TRUE(Mentions(status, "is of group 7 epoch 1.1 with 2 ranks, expected group 7 epoch 1.2")) << status;
}

TEST(CoresTest, QuotasCountWholeCores) {
  EXPECT_EQ(QuotaCores("max 100000"), 0);
  EXPECT_EQ(QuotaCores("150000 100000"), 1);
  EXPECT_EQ(QuotaCores("50000 100000"), 1);
  EXPECT_EQ(QuotaCores("400000 100000"), 4);
  EXPECT_EQ(QuotaCores(""), 0);
  EXPECT_EQ(QuotaCores("1 0"), 0);
  EXPECT_GE(UsableCores({}), 1);
}

}  // namespace
}  // namespace tandem::worker
