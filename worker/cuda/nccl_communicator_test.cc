// Over the fake NCCL and the fake runtime of tests/emulation. Ranks are processes, as they are in service: this one is
// rank 0, the others are children. TANDEM_FAKE_NCCL orders the faults.
#include "worker/cuda/nccl_communicator.h"

#include <cuda_runtime.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/emulation/control.h"
#include "worker/comm/forked_group_for_test.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/device_road.h"
#include "worker/cuda/nccl_path.h"
#include "worker/cuda/peer_check.h"
#include "worker/cuda/stream.h"

namespace tandem::worker::cuda {
namespace {

using testing::AllOf;
using testing::HasSubstr;

NcclOptions Patient() {
  return {.init_limit = absl::Seconds(20), .abort_limit = absl::Seconds(5), .on_lost = [](absl::string_view) {}};
}

// Waits for the stream as the executor does; what failed is aborted, or the stream would never end.
absl::Status Await(NcclCommunicator& nccl, const Stream& stream, std::chrono::milliseconds limit) {
  const absl::Status status = AwaitDevice(
      "a step", {.limit = limit,
                 .health = [&] { return nccl.Health(); },
                 .passed = [&]() -> absl::StatusOr<bool> { return cudaStreamQuery(stream.get()) == cudaSuccess; }});
  if (!status.ok()) nccl.Abort(status.message());
  return status;
}

// Sums rank + 1 over the ranks, `count` times over, and gathers; true if all came out right.
bool Exchange(NcclCommunicator& nccl) {
  const int count = 300000;  // more than a slot of the fake
  absl::StatusOr<Stream> stream = Stream::Create();
  absl::StatusOr<DeviceMemory> memory = DeviceMemory::Allocate(count * 4, "a test");
  absl::StatusOr<DeviceMemory> gathered = DeviceMemory::Allocate(nccl.size() * count * 4, "a test");
  auto* values = reinterpret_cast<float*>(memory->data());
  std::fill(values, values + count, static_cast<float>(nccl.rank() + 1));
  if (!nccl.AllReduceSum(values, count, model::DType::kFloat32, stream->get()).ok()) return false;
  if (!Await(nccl, *stream, std::chrono::seconds(20)).ok()) return false;
  const auto sum = static_cast<float>(nccl.size() * (nccl.size() + 1) / 2);
  if (std::count(values, values + count, sum) != count) return false;

  std::fill(values, values + count, static_cast<float>(nccl.rank()));
  void* const receive = nccl.rank() == 0 ? gathered->data() : nullptr;
  if (!nccl.Gather(values, receive, count, model::DType::kFloat32, stream->get()).ok()) return false;
  if (!Await(nccl, *stream, std::chrono::seconds(20)).ok()) return false;
  for (int i = 0; nccl.rank() == 0 && i < nccl.size() * count; ++i) {
    if (reinterpret_cast<float*>(gathered->data())[i] != static_cast<float>(i / count)) return false;
  }
  return true;
}

class NcclCommunicatorTest : public testing::Test {
 protected:
  void SetUp() override {
    Order("");
    ForgetLinksForTest();
  }
  void TearDown() override {
    Order("");
    unsetenv("NCCL_P2P_DISABLE");
  }
  static void Order(const char* faults) { setenv("TANDEM_FAKE_NCCL", faults, 1); }

  // A child that joins and then does `next`; a child whose Join fails did as it should where `joins` is false.
  static std::function<bool(GroupChannel&)> Child(bool joins, std::function<bool(NcclCommunicator&)> next) {
    return [=](GroupChannel& channel) {
      absl::StatusOr<std::unique_ptr<NcclCommunicator>> nccl =
          NcclCommunicator::Join(&channel.communicator(), Patient());
      if (!nccl.ok()) LOG(INFO) << nccl.status();
      if (!nccl.ok() || !joins) return nccl.ok() == joins;
      const bool done = next(**nccl);
      // Who leaves first looks dead to those that still gather.
      return channel.Health().ok() ? channel.communicator().Barrier().ok() && done : done;
    };
  }
};

TEST_F(NcclCommunicatorTest, SumsAndGathers) {
  for (const int ranks : {2, 3, 4}) {
    ForkedGroup group(ranks, {}, Child(true, Exchange));
    const auto nccl = NcclCommunicator::Join(&group.channel().communicator(), Patient());
    ASSERT_TRUE(nccl.ok()) << nccl.status();
    EXPECT_EQ((*nccl)->numerics(), "nccl-2.30.0");
    EXPECT_TRUE(Exchange(**nccl));
    EXPECT_TRUE(group.channel().communicator().Barrier().ok());
    for (int rank = 1; rank < ranks; ++rank) EXPECT_TRUE(group.Join(rank)) << rank;
  }
}

TEST_F(NcclCommunicatorTest, TheSelfTestFindsAWrongSum) {
  Order("1:wrong@2");
  ForkedGroup group(2, {}, Child(false, nullptr));
  // Rank 0 has the right sum; it learns of its peer's by the control plane, at the latest with its next call.
  auto nccl = NcclCommunicator::Join(&group.channel().communicator(), Patient());
  EXPECT_TRUE(group.Join(1));
  EXPECT_THAT(std::string(group.channel().Health().message()), HasSubstr("NCCL sums wrong on rank 1: element 0"));
}

TEST_F(NcclCommunicatorTest, AnErrorWhileComingUpIsToldInNcclsWords) {
  Order("0:init-error");
  ForkedGroup group(2, {}, Child(false, nullptr));
  const auto nccl = NcclCommunicator::Join(&group.channel().communicator(), Patient());
  EXPECT_THAT(std::string(nccl.status().message()), AllOf(HasSubstr("NCCL, starting: unhandled system error"),
                                                          HasSubstr("(ordered by the test: init-error)")));
  EXPECT_TRUE(group.Join(1)) << "the peer is told by the control plane";
}

TEST_F(NcclCommunicatorTest, ComingUpHasADeadline) {
  Order("1:init-hang");
  NcclOptions hasty = Patient();
  hasty.init_limit = absl::Seconds(1);
  ForkedGroup group(2, {}, Child(false, nullptr));
  const auto nccl = NcclCommunicator::Join(&group.channel().communicator(), hasty);
  EXPECT_EQ(nccl.status().code(), absl::StatusCode::kDeadlineExceeded) << nccl.status();
  EXPECT_TRUE(group.Join(1));
}

// Its weights come from a slower disk.
TEST_F(NcclCommunicatorTest, APeerMayComeLaterThanTheDeadlineForComingUp) {
  NcclOptions hasty = Patient();
  hasty.init_limit = absl::Seconds(4);
  ForkedGroup group(2, {}, [join = Child(true, Exchange)](GroupChannel& channel) {
    std::this_thread::sleep_for(std::chrono::seconds(5));
    return join(channel);
  });
  auto nccl = NcclCommunicator::Join(&group.channel().communicator(), hasty);
  ASSERT_TRUE(nccl.ok()) << nccl.status();
  EXPECT_TRUE(Exchange(**nccl));
  EXPECT_TRUE(group.channel().communicator().Barrier().ok());
  EXPECT_TRUE(group.Join(1));
}

// An error that NCCL finds later: whoever waits for the stream sees it, and the abort lets the stream go.
TEST_F(NcclCommunicatorTest, AnErrorOnTheDeviceEndsTheWait) {
  Order("0:error@3");
  ForkedGroup group(2, {}, Child(true, [](NcclCommunicator& nccl) { return !Exchange(nccl); }));
  auto nccl = NcclCommunicator::Join(&group.channel().communicator(), Patient());
  ASSERT_TRUE(nccl.ok()) << nccl.status();
  const Stream stream = *Stream::Create();
  float value = 1;
  // Told by the call itself, where NCCL finds it that soon, or else by the wait.
  absl::Status ended = (*nccl)->AllReduceSum(&value, 1, model::DType::kFloat32, stream.get());
  if (ended.ok()) ended = Await(**nccl, stream, std::chrono::seconds(20));
  EXPECT_THAT(std::string(ended.message()), HasSubstr("remote process exited"));
  (*nccl)->Abort(ended.message());
  EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaSuccess) << "the abort lets the stream go";
  EXPECT_FALSE((*nccl)->AllReduceSum(&value, 1, model::DType::kFloat32, stream.get()).ok()) << "it is spent";
  nccl->reset();
  EXPECT_TRUE(group.Join(1));
}

TEST_F(NcclCommunicatorTest, AHangIsEndedByTheOneWhoWaits) {
  Order("1:hang@3");
  ForkedGroup group(2, {}, Child(true, [](NcclCommunicator& nccl) { return !Exchange(nccl); }));
  auto nccl = NcclCommunicator::Join(&group.channel().communicator(), Patient());
  ASSERT_TRUE(nccl.ok()) << nccl.status();
  const Stream stream = *Stream::Create();
  float value = 1;
  ASSERT_TRUE((*nccl)->AllReduceSum(&value, 1, model::DType::kFloat32, stream.get()).ok());
  const absl::Status late = Await(**nccl, stream, std::chrono::milliseconds(300));
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaSuccess) << "the abort lets the stream go";
  EXPECT_TRUE(group.Join(1)) << "the peer hears of it and ends its own wait";
}

TEST_F(NcclCommunicatorTest, ASlowRankIsWaitedFor) {
  Order("1:slow=200");
  ForkedGroup group(2, {}, Child(true, Exchange));
  auto nccl = NcclCommunicator::Join(&group.channel().communicator(), Patient());
  ASSERT_TRUE(nccl.ok()) << nccl.status();
  EXPECT_TRUE(Exchange(**nccl));
  EXPECT_TRUE(group.channel().communicator().Barrier().ok());
  EXPECT_TRUE(group.Join(1));
}

TEST_F(NcclCommunicatorTest, AKilledPeerEndsTheWait) {
  ForkedGroup group(2, {}, Child(true, [](NcclCommunicator&) { return pause() == 0; }));
  auto nccl = NcclCommunicator::Join(&group.channel().communicator(), Patient());
  ASSERT_TRUE(nccl.ok()) << nccl.status();
  const Stream stream = *Stream::Create();
  float value = 1;
  ASSERT_TRUE((*nccl)->AllReduceSum(&value, 1, model::DType::kFloat32, stream.get()).ok());
  kill(group.pid(1), SIGKILL);
  EXPECT_EQ(Await(**nccl, stream, std::chrono::seconds(20)).code(), absl::StatusCode::kUnavailable);
  nccl->reset();
  EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaSuccess);
}

// NCCL's abort goes back to the device that its thread was on; a context there would be one on another worker's card.
TEST_F(NcclCommunicatorTest, AnAbortTouchesNoOtherDevice) {
  const auto on_device_one = [](GroupChannel& channel) {
    emulation::SetMachine({.devices = 2});
    cudaSetDevice(1);
    auto nccl = NcclCommunicator::Join(&channel.communicator(), Patient());
    if (!nccl.ok()) return false;
    (*nccl)->Abort("by the test");
    nccl->reset();
    return emulation::HasContext(1) && !emulation::HasContext(0);
  };
  ForkedGroup group(2, {}, on_device_one);
  auto nccl = NcclCommunicator::Join(&group.channel().communicator(), Patient());
  EXPECT_TRUE(group.Join(1));
}

TEST_F(NcclCommunicatorTest, AnAbortThatHangsLosesTheDevice) {
  Order("0:abort-blocks");
  std::atomic<int> lost{0};
  std::string why;
  NcclOptions options = Patient();
  options.abort_limit = absl::Milliseconds(200);
  options.on_lost = [&](absl::string_view reason) {
    why = std::string(reason);
    ++lost;
  };
  ForkedGroup group(2, {}, [](GroupChannel& channel) {
    const auto nccl = NcclCommunicator::Join(&channel.communicator(), Patient());
    if (!nccl.ok() || !channel.communicator().Barrier().ok()) return false;
    while ((*nccl)->Health().ok()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return true;
  });
  auto nccl = NcclCommunicator::Join(&group.channel().communicator(), options);
  ASSERT_TRUE(nccl.ok()) << nccl.status();
  ASSERT_TRUE(group.channel().communicator().Barrier().ok());  // else the abort may come before the child has joined
  (*nccl)->Abort("the test says so");
  (*nccl)->Abort("and once more");
  nccl->reset();
  EXPECT_EQ(lost, 1);
  EXPECT_THAT(why, HasSubstr("did not end within 200ms"));
  EXPECT_TRUE(group.Join(1));
}

// How long a rank takes to end in order; a year where it did not even begin.
std::chrono::steady_clock::duration TimeToLeave(GroupChannel& channel, absl::Duration finalize_limit) {
  NcclOptions options = Patient();
  options.finalize_limit = finalize_limit;
  auto nccl = NcclCommunicator::Join(&channel.communicator(), options);
  if (!nccl.ok() || !channel.communicator().Barrier().ok()) return std::chrono::hours(24 * 365);
  const auto begin = std::chrono::steady_clock::now();
  nccl->reset();
  return std::chrono::steady_clock::now() - begin;
}

// A planned end: the scheduler gives a rank 5 s to leave, and takes who needs longer for lost.
TEST_F(NcclCommunicatorTest, APeerThatDoesNotFinalizeHoldsUpNoOrderlyEnd) {
  Order("*:finalize-hang");
  const auto leaves = [](GroupChannel& channel) {
    return TimeToLeave(channel, absl::Milliseconds(50)) < std::chrono::seconds(4);
  };
  ForkedGroup group(2, {}, leaves);
  EXPECT_TRUE(leaves(group.channel()));
  EXPECT_TRUE(group.Join(1));
}

TEST_F(NcclCommunicatorTest, APeerThatDiedBeforeItFinalizedIsNotWaitedFor) {
  Order("*:finalize-hang");
  ForkedGroup group(2, {}, [](GroupChannel& channel) {
    const auto nccl = NcclCommunicator::Join(&channel.communicator(), Patient());
    if (!nccl.ok() || !channel.communicator().Barrier().ok()) return false;
    _exit(0);
  });
  EXPECT_LT(TimeToLeave(group.channel(), absl::Hours(1)), std::chrono::minutes(1));
  EXPECT_TRUE(group.Join(1));
}

TEST_F(NcclCommunicatorTest, RanksNeedTheSameNccl) {
  const auto with_another = [](GroupChannel& channel) {
    setenv("TANDEM_FAKE_NCCL_VERSION", "22703", 1);
    return NcclCommunicator::Join(&channel.communicator(), Patient()).status().code() ==
           absl::StatusCode::kFailedPrecondition;
  };
  ForkedGroup group(2, {}, with_another);
  const auto nccl = NcclCommunicator::Join(&group.channel().communicator(), Patient());
  EXPECT_THAT(std::string(nccl.status().message()), HasSubstr("rank 1 has NCCL 2.27.3, rank 0 has 2.30.0"));
  EXPECT_TRUE(group.Join(1));
}

class SumWindowTest : public NcclCommunicatorTest {
 protected:
  static constexpr int64_t kWindow = 64 << 10;
  static NcclOptions WithWindow() {
    NcclOptions options = Patient();
    options.window_bytes = kWindow;
    return options;
  }
  // As Child, with a window tried.
  static std::function<bool(GroupChannel&)> Peer(std::function<bool(NcclCommunicator&)> next) {
    return [=](GroupChannel& channel) {
      absl::StatusOr<std::unique_ptr<NcclCommunicator>> nccl =
          NcclCommunicator::Join(&channel.communicator(), WithWindow());
      if (!nccl.ok()) LOG(INFO) << nccl.status();
      if (next == nullptr) return !nccl.ok();
      return nccl.ok() && next(**nccl) && channel.communicator().Barrier().ok();
    };
  }
  // Sums rank + 1 where the communicator would have it.
  static bool SumInRoom(NcclCommunicator& nccl) {
    auto* const room = static_cast<float*>(nccl.SumRoom(8 << 10));
    if (room == nullptr) return false;
    const absl::StatusOr<Stream> stream = Stream::Create();
    std::fill(room, room + 2048, static_cast<float>(nccl.rank() + 1));
    if (!nccl.AllReduceSum(room, 2048, model::DType::kFloat32, stream->get()).ok()) return false;
    if (!Await(nccl, *stream, std::chrono::seconds(20)).ok()) return false;
    return std::count(room, room + 2048, 3.0f) == 2048;
  }
};

TEST_F(SumWindowTest, TheFasterPlaceIsChosenByAllRanks) {
  Order("1:slow-plain=60");
  const auto both = [](NcclCommunicator& nccl) { return SumInRoom(nccl) && Exchange(nccl); };
  ForkedGroup group(2, {}, Peer(both));
  const auto nccl = NcclCommunicator::Join(&group.channel().communicator(), WithWindow());
  ASSERT_TRUE(nccl.ok()) << nccl.status();
  EXPECT_EQ((*nccl)->numerics(), "nccl-2.30.0+windows");
  EXPECT_TRUE(both(**nccl));
  EXPECT_EQ((*nccl)->SumRoom(kWindow + 1), nullptr) << "larger sums lie where they lay";
  EXPECT_TRUE(group.channel().communicator().Barrier().ok());
  EXPECT_TRUE(group.Join(1));
}

TEST_F(SumWindowTest, WithoutWindowsTheGroupSumsAsItDid) {
  // One rank's NCCL takes no window; or fails at it, and is spoiled by that.
  for (const char* fault : {"1:window-none", "1:window-error"}) {
    Order(fault);
    const auto plain = [](NcclCommunicator& nccl) { return nccl.SumRoom(8) == nullptr && Exchange(nccl); };
    ForkedGroup group(2, {}, Peer(plain));
    const auto nccl = NcclCommunicator::Join(&group.channel().communicator(), WithWindow());
    ASSERT_TRUE(nccl.ok()) << fault << ": " << nccl.status();
    EXPECT_EQ((*nccl)->numerics(), "nccl-2.30.0");
    EXPECT_TRUE(plain(**nccl)) << fault;
    EXPECT_TRUE(group.channel().communicator().Barrier().ok());
    EXPECT_TRUE(group.Join(1)) << fault;
  }
}

// Their sums wait for a peer that is gone whatever is aborted.
TEST_F(SumWindowTest, WindowsThatAnAbortDoesNotEndAreLeftAlone) {
  for (const bool all_the_same : {false, true}) {
    setenv("TANDEM_FAKE_NCCL_VERSION", "22809", 1);
    Order("1:slow-plain=60");
    NcclOptions options = WithWindow();
    options.stuck_windows = all_the_same;
    ForkedGroup group(2, {}, [options](GroupChannel& channel) {
      const auto nccl = NcclCommunicator::Join(&channel.communicator(), options);
      return nccl.ok() && channel.communicator().Barrier().ok();
    });
    const auto nccl = NcclCommunicator::Join(&group.channel().communicator(), options);
    ASSERT_TRUE(nccl.ok()) << nccl.status();
    EXPECT_EQ((*nccl)->numerics(), all_the_same ? "nccl-2.28.9+windows" : "nccl-2.28.9");
    EXPECT_GT((*nccl)->AbortTime(10), std::chrono::seconds(1)) << "nor does any other sum of it at once";
    EXPECT_TRUE(group.channel().communicator().Barrier().ok());
    EXPECT_TRUE(group.Join(1));
    unsetenv("TANDEM_FAKE_NCCL_VERSION");
  }
}

TEST_F(SumWindowTest, AFaultWhileSumsAreTimedEndsTheGroup) {
  for (const char* fault : {"1:hang@9", "1:error@9"}) {
    Order(fault);
    NcclOptions hasty = WithWindow();
    hasty.init_limit = absl::Seconds(3);
    ForkedGroup group(2, {}, Peer(nullptr));
    const auto nccl = NcclCommunicator::Join(&group.channel().communicator(), hasty);
    EXPECT_FALSE(nccl.ok()) << fault;
    EXPECT_FALSE(group.channel().Health().ok()) << fault;
    EXPECT_TRUE(group.Join(1)) << fault;
  }
}

TEST(SumTimesTest, WindowsAreForTheSizesUpToWhichTheyAreClearlyFaster) {
  const SumTimes faster{.bytes = 8 << 10, .plain_us = 10, .window_us = 5};
  const SumTimes same{.bytes = 64 << 10, .plain_us = 10, .window_us = 9.9f};
  const SumTimes again{.bytes = 512 << 10, .plain_us = 50, .window_us = 20};
  EXPECT_EQ(ChooseWindowLimit({}), 0);
  EXPECT_EQ(ChooseWindowLimit({same, again}), 0);
  EXPECT_EQ(ChooseWindowLimit({faster, same, again}), 8 << 10);
  EXPECT_EQ(ChooseWindowLimit({faster, again}), 512 << 10);
  EXPECT_EQ(DescribeSumTimes({faster}), "8 KiB 10.0 us, in a window 5.0 us");
}

class PeerCheckTest : public NcclCommunicatorTest {
 protected:
  static std::string Check(Communicator& control) {
    const absl::StatusOr<PeerFinding> found = CheckPeerWrites(control, absl::Now() + absl::Seconds(20),
                                                              [](absl::string_view reason) { LOG(FATAL) << reason; });
    if (!found.ok()) return found.status().ToString();
    EXPECT_EQ(found->access == PeerAccess::kWorks, found->reason.empty());
    return found->reason;
  }
};

TEST_F(PeerCheckTest, WhatIsWrittenArrives) {
  for (const int ranks : {2, 3}) {
    ForkedGroup group(ranks, {}, [](GroupChannel& channel) { return Check(channel.communicator()).empty(); });
    EXPECT_EQ(Check(group.channel().communicator()), "");
    for (int rank = 1; rank < ranks; ++rank) EXPECT_TRUE(group.Join(rank)) << rank;
  }
}

TEST_F(PeerCheckTest, AllRanksAgreeOnTheFirstReason) {
  emulation::FailCall("cudaIpcOpenMemHandle", 1, cudaErrorPeerAccessUnsupported);  // of the children as well
  const auto same = [](GroupChannel& channel) {
    return absl::StrContains(Check(channel.communicator()), "rank 0 can not open the memory of rank 1");
  };
  ForkedGroup group(2, {}, same);
  EXPECT_TRUE(same(group.channel()));
  EXPECT_TRUE(group.Join(1));
}

TEST_F(PeerCheckTest, WithoutPeerAccessTheGroupStillComesUp) {
  // The driver refuses, which NCCL sees for itself; then it does not, and what is written goes nowhere.
  for (const char* call : {"cudaIpcGetMemHandle", "cudaMemcpyAsync"}) {
    const bool told = call == std::string("cudaMemcpyAsync");
    emulation::FailCall(call, told ? 2 : 1, cudaErrorNotSupported);
    const auto works = [told](NcclCommunicator& nccl) {
      return Exchange(nccl) && (std::getenv("NCCL_P2P_DISABLE") != nullptr) == told;
    };
    ForgetLinksForTest();
    ForkedGroup group(2, {}, Child(true, works));
    auto nccl = NcclCommunicator::Join(&group.channel().communicator(), Patient());
    ASSERT_TRUE(nccl.ok()) << nccl.status();
    EXPECT_TRUE(works(**nccl)) << call;
    EXPECT_TRUE(group.channel().communicator().Barrier().ok());
    EXPECT_TRUE(group.Join(1)) << call;
  }
}

// A copy over a bridge that leads nowhere is not waited for by what gives memory back: the process ends, and its peers
// know why it did.
TEST_F(PeerCheckTest, AnErrorThatStaysEndsTheProcessOnceThePeersKnow) {
  emulation::FailCall("cudaMemcpyAsync", 2, cudaErrorIllegalAddress);
  ForkedGroup group(2, {}, [](GroupChannel& channel) {
    emulation::SetMachine({});
    const auto found = CheckPeerWrites(channel.communicator(), absl::Now() + absl::Seconds(20),
                                       [](absl::string_view reason) { LOG(FATAL) << reason; });
    return found.ok() && found->access == PeerAccess::kBroken;
  });
  std::string lost;
  const auto found = CheckPeerWrites(group.channel().communicator(), absl::Now() + absl::Seconds(20),
                                     [&](absl::string_view reason) { lost = std::string(reason); });
  EXPECT_FALSE(found.ok());
  EXPECT_THAT(lost, HasSubstr("rank 0 can not write to rank 1"));
  group.channel().communicator().Abort("the process ends");
  EXPECT_TRUE(group.Join(1));
}

// ---- the road of a link probe ---------------------------------------------------------------------------------------

DeviceRoadOptions Road(absl::Duration send_limit) {
  return {
      .floats = 100'000, .init_limit = absl::Seconds(20), .send_limit = send_limit, .on_lost = [](absl::string_view) {
      }};
}

TEST_F(NcclCommunicatorTest, ARoadCarriesMessagesOfDeviceMemory) {
  const auto send = [](Communicator& control, bool enough_at_five) {
    const auto road = OpenDeviceRoad(&control, Road(absl::Seconds(20)));
    if (!road.ok()) return -1;
    for (int i = 1; i <= 10; ++i) {
      const auto passage = (*road)->Send(i % 2 == 0 ? 100'000 : 1000, enough_at_five && i == 5);
      if (!passage.ok() || passage->took.count() <= 0) return -1;
      if (passage->enough) return i;
    }
    return 11;
  };
  ForkedGroup group(2, {}, [&](GroupChannel& channel) {
    const int sent = send(channel.communicator(), true);
    return channel.communicator().Barrier().ok() && sent == 5;
  });
  const size_t before = emulation::AllocatedBytes(0);
  EXPECT_EQ(send(group.channel().communicator(), false), 5) << "the other rank had enough";
  EXPECT_EQ(emulation::AllocatedBytes(0), before) << "the message is gone with the road";
  EXPECT_TRUE(group.channel().communicator().Barrier().ok());
  EXPECT_TRUE(group.Join(1));
}

// The peer's device stands still in the third message after the self-test: this end gives up by its own limit.
TEST_F(NcclCommunicatorTest, APeerThatHangsEndsTheRoad) {
  Order("1:hang@5");
  const auto send = [](Communicator& control) {
    const auto road = OpenDeviceRoad(&control, Road(absl::Seconds(1)));
    if (!road.ok()) return road.status();
    for (int i = 0; i < 5; ++i) {
      if (const auto passage = (*road)->Send(1000, false); !passage.ok()) return passage.status();
    }
    return absl::OkStatus();
  };
  ForkedGroup group(2, {}, [&](GroupChannel& channel) { return !send(channel.communicator()).ok(); });
  const auto begin = std::chrono::steady_clock::now();
  const absl::Status status = send(group.channel().communicator());
  EXPECT_FALSE(status.ok());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(15));
  EXPECT_TRUE(group.Join(1)) << "the end whose device hung learns of it too";
}

TEST_F(NcclCommunicatorTest, ARoadThatDoesNotComeUpIsToldAtBothEnds) {
  Order("0:init-error");
  ForkedGroup group(2, {}, [](GroupChannel& channel) {
    return !OpenDeviceRoad(&channel.communicator(), Road(absl::Seconds(1))).ok();
  });
  const auto road = OpenDeviceRoad(&group.channel().communicator(), Road(absl::Seconds(1)));
  EXPECT_THAT(std::string(road.status().message()), HasSubstr("NCCL, starting: unhandled system error"));
  EXPECT_TRUE(group.Join(1));
}

}  // namespace
}  // namespace tandem::worker::cuda
