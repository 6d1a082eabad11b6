// The NCCL communicator on real devices: as many ranks as there are, one is enough for what needs no peer. Ranks are
// processes and each case has fresh ones, because a process that has touched CUDA cannot be forked.
#include <cuda_runtime.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "worker/comm/forked_group_for_test.h"
#include "worker/cuda/decode_graphs.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/nccl_communicator.h"
#include "worker/cuda/stream.h"

namespace tandem::worker::cuda {
namespace {

constexpr int kMostRanks = 8;

// The exit code of a child that runs `function`; -1: it was killed.
int InChild(const std::function<int()>& function) {
  const pid_t pid = fork();
  PCHECK(pid >= 0);
  if (pid == 0) _exit(function());
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) PCHECK(errno == EINTR);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int Devices() {
  return InChild([] {
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? std::min(count, kMostRanks) : 0;
  });
}

NcclOptions Patient() {
  return {.init_limit = absl::Seconds(60),
          .abort_limit = absl::Seconds(10),
          .window_bytes = 1 << 20,
          .on_lost = [](absl::string_view) {}};
}

// What a rank has, on the device of its number.
struct Rank {
  static std::unique_ptr<Rank> Join(GroupChannel& channel) {
    if (cudaSetDevice(channel.communicator().rank()) != cudaSuccess) return nullptr;
    absl::StatusOr<Stream> stream = Stream::Create();
    auto nccl = NcclCommunicator::Join(&channel.communicator(), Patient());
    if (!stream.ok() || !nccl.ok()) {
      LOG(ERROR) << stream.status() << "; " << nccl.status();
      return nullptr;
    }
    return std::unique_ptr<Rank>(new Rank{channel, *std::move(stream), *std::move(nccl)});
  }

  // Waits for the stream as the executor does; what failed is aborted, or the stream would never end.
  absl::Status Await(std::chrono::milliseconds limit = std::chrono::seconds(30)) const {
    const absl::Status status = AwaitDevice(
        "a step", {.limit = limit,
                   .health = [&] { return nccl->Health(); },
                   .passed = [&]() -> absl::StatusOr<bool> { return cudaStreamQuery(stream.get()) == cudaSuccess; }});
    if (!status.ok()) nccl->Abort(status.message());
    return status;
  }

  // Who leaves first looks dead to those that still compute.
  bool Leave(bool done) const { return channel.communicator().Barrier().ok() && done; }

  GroupChannel& channel;
  Stream stream;
  std::unique_ptr<NcclCommunicator> nccl;
};

// Runs `run` as every rank of a group, each in a process of its own; true if all of them returned true.
bool AsGroup(int ranks, const std::function<bool(Rank&)>& run) {
  const auto as_rank = [&run](GroupChannel& channel) {
    const std::unique_ptr<Rank> rank = Rank::Join(channel);
    return rank != nullptr && run(*rank);
  };
  return InChild([&] {
           ForkedGroup group(ranks, {}, as_rank);
           bool right = as_rank(group.channel());
           for (int rank = 1; rank < ranks; ++rank) right = group.Join(rank) && right;
           return right ? 0 : 1;
         }) == 0;
}

// Small whole numbers: every type has them, and their sum over a few ranks, exactly. bf16 and fp16 as their 16 bits.
uint16_t Bits(float value, model::DType type) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  if (type == model::DType::kBFloat16) return static_cast<uint16_t>(bits >> 16);
  if (value == 0) return 0;
  return static_cast<uint16_t>((((bits >> 23) - 127 + 15) << 10) | (bits >> 13 & 0x3ff));
}
std::vector<uint8_t> Bytes(const std::vector<float>& values, model::DType type) {
  const auto size = static_cast<size_t>(model::BytesOf(type));
  std::vector<uint8_t> bytes(values.size() * size);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t half = Bits(values[i], type);
    memcpy(bytes.data() + i * size, size == 4 ? static_cast<const void*>(&values[i]) : &half, size);
  }
  return bytes;
}

bool Sums(Rank& rank, int64_t count, model::DType type, bool captured) {
  const int ranks = rank.nccl->size() * (rank.nccl->size() + 1) / 2;
  std::vector<float> mine, sum;
  for (int64_t i = 0; i < count; ++i) {
    mine.push_back(static_cast<float>((rank.nccl->rank() + 1) * (i % 7)));
    sum.push_back(static_cast<float>(ranks * (i % 7)));
  }
  const std::vector<uint8_t> sent = Bytes(mine, type), expected = Bytes(sum, type);
  absl::StatusOr<DeviceMemory> memory = DeviceMemory::Allocate(static_cast<int64_t>(sent.size()), "a test");
  if (!memory.ok()) return false;
  // In a window, where the group has found that to be faster.
  void* const room = rank.nccl->SumRoom(static_cast<int64_t>(sent.size()));
  void* const at = room != nullptr ? room : memory->data();
  const auto reduce = [&] { return rank.nccl->AllReduceSum(at, count, type, rank.stream.get()); };
  absl::StatusOr<Graph> graph;
  if (captured) {
    graph = Graph::Capture(rank.stream.get(), reduce);
    if (!graph.ok()) LOG(ERROR) << graph.status();
    if (!graph.ok()) return false;
  }
  for (int round = 0; round < 3; ++round) {
    std::vector<uint8_t> got(sent.size());
    if (cudaMemcpyAsync(at, sent.data(), sent.size(), cudaMemcpyHostToDevice, rank.stream.get()) != cudaSuccess) {
      return false;
    }
    if (!(captured ? graph->Launch(rank.stream.get()) : reduce()).ok() || !rank.Await().ok()) return false;
    if (cudaMemcpyAsync(got.data(), at, got.size(), cudaMemcpyDeviceToHost, rank.stream.get()) != cudaSuccess ||
        !rank.Await().ok()) {
      return false;
    }
    if (got != expected) return false;
  }
  return true;
}

class NcclOnDevices : public testing::Test {
 protected:
  void SetUp() override {
    if (devices_ == 0) GTEST_SKIP() << "no CUDA device";
  }
  const int devices_ = Devices();
};

TEST_F(NcclOnDevices, SumsOfAllSizesAndTypes) {
  EXPECT_TRUE(AsGroup(devices_, [](Rank& rank) {
    bool right = true;
    for (const model::DType type : {model::DType::kFloat32, model::DType::kBFloat16, model::DType::kFloat16}) {
      for (const int64_t count : {1, 1000, 4096, 1 << 20}) right &= Sums(rank, count, type, false);
    }
    return rank.Leave(right);
  }));
}

TEST_F(NcclOnDevices, SumsWithinACapturedGraph) {
  EXPECT_TRUE(AsGroup(devices_, [](Rank& rank) {
    // As in service: what a graph holds has run before it is captured.
    bool right = Sums(rank, 4096, model::DType::kBFloat16, false);
    for (const int64_t count : {4096, 128, 65536}) right &= Sums(rank, count, model::DType::kBFloat16, true);
    return rank.Leave(right);
  }));
}

TEST_F(NcclOnDevices, GathersAtRankZero) {
  EXPECT_TRUE(AsGroup(devices_, [](Rank& rank) {
    constexpr int64_t kCount = 50000;
    const int ranks = rank.nccl->size();
    const std::vector<float> mine(kCount, static_cast<float>(rank.nccl->rank() + 1));
    auto send = DeviceMemory::Allocate(kCount * 4, "a test"),
         receive = DeviceMemory::Allocate(ranks * kCount * 4, "a test");
    if (!send.ok() || !receive.ok()) return false;
    bool right = cudaMemcpyAsync(send->data(), mine.data(), kCount * 4, cudaMemcpyHostToDevice, rank.stream.get()) ==
                 cudaSuccess;
    void* const into = rank.nccl->rank() == 0 ? receive->data() : nullptr;
    right &= rank.nccl->Gather(send->data(), into, kCount, model::DType::kFloat32, rank.stream.get()).ok() &&
             rank.Await().ok();
    if (rank.nccl->rank() == 0) {
      std::vector<float> all(static_cast<size_t>(ranks * kCount));
      right &=
          cudaMemcpyAsync(all.data(), into, all.size() * 4, cudaMemcpyDeviceToHost, rank.stream.get()) == cudaSuccess &&
          rank.Await().ok();
      for (size_t i = 0; i < all.size(); ++i) right &= all[i] == static_cast<float>(i / kCount + 1);
    }
    return rank.Leave(right);
  }));
}

// The peer never comes to the second sum: whoever waits gives up at its limit, and the abort lets its stream go.
TEST_F(NcclOnDevices, AHungRankIsLeft) {
  if (devices_ < 2) GTEST_SKIP() << "needs two devices, there is one";
  EXPECT_TRUE(AsGroup(2, [](Rank& rank) {
    if (!Sums(rank, 4096, model::DType::kFloat32, false)) return false;
    if (rank.nccl->rank() == 1) {
      while (rank.nccl->Health().ok()) usleep(1000);  // it is told
      return true;
    }
    auto memory = DeviceMemory::Allocate(4096, "a test");
    if (!rank.nccl->AllReduceSum(memory->data(), 1024, model::DType::kFloat32, rank.stream.get()).ok()) return false;
    const bool late = absl::IsDeadlineExceeded(rank.Await(std::chrono::milliseconds(500)));
    return late && cudaStreamSynchronize(rank.stream.get()) == cudaSuccess;
  }));
}

TEST_F(NcclOnDevices, AKilledRankEndsTheWait) {
  if (devices_ < 2) GTEST_SKIP() << "needs two devices, there is one";
  const auto dies = [](GroupChannel& channel) {
    const std::unique_ptr<Rank> rank = Rank::Join(channel);
    return rank != nullptr && rank->Leave(true) && kill(getpid(), SIGKILL) == 0;
  };
  EXPECT_EQ(InChild([&] {
              ForkedGroup group(2, {}, dies);
              const std::unique_ptr<Rank> rank = Rank::Join(group.channel());
              if (rank == nullptr || !rank->Leave(true)) return 1;
              auto memory = DeviceMemory::Allocate(4096, "a test");
              // Accepted or not: the peer may be gone already.
              if (rank->nccl->AllReduceSum(memory->data(), 1024, model::DType::kFloat32, rank->stream.get()).ok() &&
                  !absl::IsUnavailable(rank->Await())) {
                return 2;
              }
              return cudaStreamSynchronize(rank->stream.get()) == cudaSuccess ? 0 : 3;
            }),
            0);
}

}  // namespace
}  // namespace tandem::worker::cuda
