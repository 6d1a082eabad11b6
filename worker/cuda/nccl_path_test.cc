// What ranks settle before NCCL starts, when they have different pasts. Ranks are processes, over the fakes of
// tests/emulation; a child forgets the past of this process, which is rank 0.
#include "worker/cuda/nccl_path.h"

#include <cuda_runtime.h>
#include <glog/logging.h>

#include <cstdlib>
#include <functional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/emulation/control.h"
#include "worker/comm/forked_group_for_test.h"

namespace tandem::worker::cuda {
namespace {

using testing::AllOf;
using testing::HasSubstr;

absl::StatusOr<bool> Choose(GroupChannel& channel) {
  return ChooseNcclPath(channel.communicator(), absl::Now() + absl::Seconds(20),
                        [](absl::string_view reason) { LOG(FATAL) << reason; });
}

// The device of this process cannot write to its peer's, though the driver says that it may.
void BreakLink() { emulation::FailCall("cudaMemcpyAsync", 2, cudaErrorNotSupported); }

bool SwitchedOff() {
  const char* const disable = std::getenv("NCCL_P2P_DISABLE");
  return disable != nullptr && std::string(disable) == "1";
}

class NcclPathTest : public testing::Test {
 protected:
  void SetUp() override { BeNew(); }
  void TearDown() override { BeNew(); }

  static void BeNew() {
    emulation::SetMachine({});
    ForgetLinksForTest();
    unsetenv("NCCL_P2P_DISABLE");
    unsetenv("NCCL_P2P_LEVEL");
  }

  // A process that has just been started.
  static std::function<bool(GroupChannel&)> NewPeer(std::function<bool(GroupChannel&)> then) {
    return [then = std::move(then)](GroupChannel& channel) {
      BeNew();
      return then(channel);
    };
  }
};

TEST_F(NcclPathTest, LinksThatWorkAreUsedAndNoSwitchIsSet) {
  ForkedGroup group(2, {}, NewPeer([](GroupChannel& channel) { return *Choose(channel) && !SwitchedOff(); }));
  EXPECT_TRUE(*Choose(group.channel()));
  EXPECT_FALSE(SwitchedOff());
  EXPECT_TRUE(group.Join(1));
}

// Of some pairs the driver says so: NCCL sees to them by itself, and other pairs keep their links.
TEST_F(NcclPathTest, ARefusedPairTakesNoLinkFromOthers) {
  const auto none = [](GroupChannel& channel) {
    const absl::StatusOr<bool> direct = Choose(channel);
    return direct.ok() && !*direct && !SwitchedOff();
  };
  for (const char* call : {"cudaIpcGetMemHandle", "cudaIpcOpenMemHandle"}) {
    emulation::FailCall(call, 1, cudaErrorPeerAccessUnsupported);
    ForkedGroup group(2, {}, NewPeer(none));
    EXPECT_TRUE(none(group.channel())) << call;
    EXPECT_TRUE(group.Join(1)) << call;
  }
  ForkedGroup linked(2, {}, NewPeer([](GroupChannel& channel) { return *Choose(channel); }));
  EXPECT_TRUE(*Choose(linked.channel()));
  EXPECT_TRUE(linked.Join(1));
}

// The rank that was killed comes back as a new process, and finds a rank 0 whose NCCL does without links for good.
TEST_F(NcclPathTest, ANewProcessDoesWithoutLinksWhereAPeerHasToDoSo) {
  const auto without = [](GroupChannel& channel) {
    const absl::StatusOr<bool> direct = Choose(channel);
    return direct.ok() && !*direct && SwitchedOff();
  };
  {
    BreakLink();
    ForkedGroup group(2, {}, NewPeer(without));
    EXPECT_TRUE(without(group.channel()));
    EXPECT_TRUE(group.Join(1));
  }
  // Now the devices would reach each other; what counts is that both ends choose alike.
  ForkedGroup again(2, {}, NewPeer(without));
  EXPECT_TRUE(without(again.channel()));
  EXPECT_TRUE(again.Join(1));
}

TEST_F(NcclPathTest, AProcessThatUsedLinksCanNotDoWithoutThemLater) {
  {
    ForkedGroup group(2, {}, NewPeer([](GroupChannel& channel) { return *Choose(channel); }));
    EXPECT_TRUE(*Choose(group.channel()));
    EXPECT_TRUE(group.Join(1));
  }
  const auto refused = [](GroupChannel& channel) {
    return Choose(channel).status().code() == absl::StatusCode::kFailedPrecondition;
  };
  BreakLink();
  ForkedGroup group(2, {}, NewPeer(refused));
  const absl::Status status = Choose(group.channel()).status();
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("rank 0 can not write to rank 1"), HasSubstr("rank 0 has started NCCL with direct"),
                    HasSubstr("NCCL_P2P_DISABLE=1")));
  EXPECT_TRUE(group.Join(1));
}

TEST_F(NcclPathTest, AnOperatorsChoiceHasToBeTheSameOnAllRanks) {
  ForkedGroup group(2, {}, NewPeer([](GroupChannel& channel) {
                      setenv("NCCL_P2P_LEVEL", "NVL", 1);
                      return !Choose(channel).ok();
                    }));
  EXPECT_THAT(std::string(Choose(group.channel()).status().message()),
              HasSubstr("rank 1 has NCCL_P2P_DISABLE= NCCL_P2P_LEVEL=NVL, rank 0 has neither"));
  EXPECT_TRUE(group.Join(1));
}

TEST_F(NcclPathTest, AnOperatorsChoiceIsLeftAlone) {
  setenv("NCCL_P2P_LEVEL", "NVL", 1);
  ForkedGroup group(2, {}, [](GroupChannel& channel) { return !*Choose(channel) && !SwitchedOff(); });
  EXPECT_FALSE(*Choose(group.channel()));
  EXPECT_FALSE(SwitchedOff());
  EXPECT_TRUE(group.Join(1));
}

}  // namespace
}  // namespace tandem::worker::cuda
