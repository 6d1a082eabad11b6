#include "worker/comm/shm_communicator.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "worker/comm/local_group_for_test.h"
#include "worker/comm/rank_sum.h"

namespace tandem::worker {
namespace {

constexpr absl::Duration kCallTimeout = absl::Seconds(60);

// The same values on every run: what rank `rank` contributes to call `call`.
std::vector<float> Contribution(int rank, int call, size_t count) {
  std::minstd_rand random(static_cast<uint32_t>(rank * 1000003 + call + 1));
  std::vector<float> values(count);
  // Exponents differ widely, so that another order of the additions would show in the bits.
  for (float& value : values) {
    const uint32_t bits = random();
    value = std::ldexp(static_cast<float>(bits) - 1.1e9f, static_cast<int>(bits % 20));
  }
  return values;
}

std::vector<uint32_t> Bits(const std::vector<float>& values) {
  std::vector<uint32_t> bits;
  for (float value : values) bits.push_back(std::bit_cast<uint32_t>(value));
  return bits;
}

std::vector<float> PlainSum(int ranks, int call, size_t count) {
  std::vector<float> sum = Contribution(0, call, count);
  for (int r = 1; r < ranks; ++r) {
    std::vector<float> part = Contribution(r, call, count);
    for (size_t i = 0; i < count; ++i) sum[i] = sum[i] + part[i];
  }
  return sum;
}

class ShmCommunicatorTest : public testing::TestWithParam<int> {
 protected:
  int ranks() const { return GetParam(); }
};

TEST_P(ShmCommunicatorTest, SumsEqualAPlainLoopBitForBitAtAnySize) {
  LocalGroup group(ranks());
  const std::vector<size_t> sizes = {1,    2,    3,     7,     31,    33,     1000,   4096,   8191,
                                     8192, 8193, 16384, 32767, 32768, 100003, 262144, 1000000};
  std::vector<std::vector<uint32_t>> expected;
  for (size_t i = 0; i < sizes.size(); ++i) {
    expected.push_back(Bits(PlainSum(ranks(), static_cast<int>(i), sizes[i])));
  }
  group.Run([&](int rank) {
    ShmCommunicator comm(group.member(rank), kCallTimeout);
    for (size_t i = 0; i < sizes.size(); ++i) {
      std::vector<float> values = Contribution(rank, static_cast<int>(i), sizes[i]);
      ASSERT_EQ(comm.AllReduceSum(absl::MakeSpan(values)), absl::OkStatus());
      ASSERT_EQ(Bits(values), expected[i]) << "size " << sizes[i];
    }
  });
}

TEST_P(ShmCommunicatorTest, EmptyMessagesAreNoOps) {
  LocalGroup group(ranks());
  group.Run([&](int rank) {
    ShmCommunicator comm(group.member(rank), kCallTimeout);
    EXPECT_EQ(comm.AllReduceSum({}), absl::OkStatus());
    EXPECT_EQ(comm.Gather({}, {}), absl::OkStatus());
    EXPECT_EQ(comm.AllGather({}, {}), absl::OkStatus());
    EXPECT_EQ(comm.Barrier(), absl::OkStatus());
  });
}

// Thousands of calls of every kind and size in one order, with ranks that dawdle at random places. A slot reused while
// a peer still reads it shows as a wrong value.
TEST_P(ShmCommunicatorTest, MixedCallsNeverSeeAnOtherCallsData) {
  GroupShape shape;
  shape.slot_bytes = 4096;  // Small, so that most messages go in pieces.
  LocalGroup group(ranks(), shape);
  const int calls = 8000 / ranks();  // Each costs more where many ranks share few cores.
  group.Run([&](int rank) {
    ShmCommunicator comm(group.member(rank), kCallTimeout);
    std::mt19937 shared(11);  // Equal on all ranks: which call, which size.
    std::mt19937 own(static_cast<uint32_t>(100 + rank));
    for (int call = 0; call < calls; ++call) {
      if (own() % 64 == 0) std::this_thread::yield();
      const uint32_t kind = shared() % 8;
      const size_t count = shared() % 8 == 0 ? shared() % 12000 : shared() % 300;
      if (kind < 4) {
        std::vector<float> values(count, static_cast<float>(call + rank));
        ASSERT_EQ(comm.AllReduceSum(absl::MakeSpan(values)), absl::OkStatus());
        const float sum = static_cast<float>(ranks() * call + ranks() * (ranks() - 1) / 2);
        for (float value : values) ASSERT_EQ(value, sum) << "call " << call;
      } else if (kind < 6) {
        std::vector<float> send(count, static_cast<float>(call * 10 + rank));
        std::vector<float> receive(rank == 0 ? count * ranks() : 0);
        ASSERT_EQ(comm.Gather(send, absl::MakeSpan(receive)), absl::OkStatus());
        for (size_t i = 0; i < receive.size(); ++i) {
          ASSERT_EQ(receive[i], static_cast<float>(call * 10 + static_cast<int>(i / count))) << "call " << call;
        }
      } else if (kind < 7) {
        std::vector<uint8_t> send(count, static_cast<uint8_t>(call + rank));
        std::vector<uint8_t> receive(count * ranks());
        ASSERT_EQ(comm.AllGather(send, absl::MakeSpan(receive)), absl::OkStatus());
        for (size_t i = 0; i < receive.size(); ++i) {
          ASSERT_EQ(receive[i], static_cast<uint8_t>(call + static_cast<int>(i / count))) << "call " << call;
        }
      } else {
        ASSERT_EQ(comm.Barrier(), absl::OkStatus());
      }
    }
  });
}

TEST_P(ShmCommunicatorTest, AbortFromAnotherThreadEndsAWaitAtEveryRank) {
  LocalGroup group(ranks());
  std::thread aborter;
  group.Run([&](int rank) {
    ShmCommunicator comm(group.member(rank), kCallTimeout);
    if (rank == 0) {
      aborter = std::thread([member = group.member(0)] { member->Abort("device lost"); });
      aborter.join();
    }
    // Rank 0 never joins the barrier, so only the abort can end it for the others.
    absl::Status status = rank == 0 ? comm.Health() : comm.Barrier();
    EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
    EXPECT_NE(status.message().find("rank 0: device lost"), absl::string_view::npos) << status;
    // Spent, and the first reason stays.
    comm.Abort("something else");
    status = comm.Barrier();
    EXPECT_NE(status.message().find("rank 0: device lost"), absl::string_view::npos) << status;
  });
}

TEST_P(ShmCommunicatorTest, ARankThatSkipsACallEndsItsPeersAtTheDeadline) {
  LocalGroup group(ranks());
  group.Run([&](int rank) {
    if (rank == ranks() - 1) return;
    ShmCommunicator comm(group.member(rank), absl::Milliseconds(50));
    absl::Status status = comm.Barrier();
    // The first to see it says DEADLINE_EXCEEDED, the others learn from it; all name the rank.
    EXPECT_TRUE(absl::IsDeadlineExceeded(status) || absl::IsAborted(status)) << status;
    EXPECT_NE(status.message().find("rank " + std::to_string(ranks() - 1) + " did not take part in barrier"),
              absl::string_view::npos)
        << status;
  });
}

TEST_P(ShmCommunicatorTest, RanksThatMayNotSpinStillMeet) {
  LocalGroup group(ranks(), {}, /*spin_limit=*/std::chrono::microseconds(0));
  group.Run([&](int rank) {
    ShmCommunicator comm(group.member(rank), kCallTimeout);
    for (int call = 0; call < 300; ++call) {
      float value = static_cast<float>(rank + 1);
      ASSERT_EQ(comm.AllReduceSum(absl::MakeSpan(&value, 1)), absl::OkStatus());
      ASSERT_EQ(value, static_cast<float>(ranks() * (ranks() + 1) / 2));
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, ShmCommunicatorTest, testing::Values(2, 3, 4, 8));

TEST(RankSumTest, AddsInRankOrderInPlace) {
  // 2^24 + 1 + 1 is 2^24 in fp32 when added from the left, and 2^24 + 2 from the right.
  std::vector<float> a(5000, 16777216.0f), b(5000, 1.0f), c(5000, 1.0f);
  const float* parts[] = {a.data(), b.data(), c.data()};
  SumInRankOrder(parts, 3, c.data(), c.size());
  EXPECT_EQ(c, std::vector<float>(5000, 16777216.0f));
}

}  // namespace
}  // namespace tandem::worker
