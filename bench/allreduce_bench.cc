// The latency of AllReduceSum between processes of one host.
//
//   allreduce_bench [--ranks=2] [--tries=5] [--pin=true] [--slot-kib=512]
//
// Each size is measured in `tries` rounds. Every round gives the median and the 99th percentile of its calls as rank 0
// sees them; printed is the round with the best median, for other work on the machine only ever adds time. "GB/s" is
// the size of the message over that median.
#include <glog/logging.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "bench/machine.h"
#include "worker/comm/group_bootstrap.h"

namespace tandem::worker {
namespace {

using std::chrono::steady_clock;

struct Case {
  const char* name;
  size_t bytes;
  int calls;  // Of one round.
};

constexpr Case kCases[] = {{"4 KiB", 4 << 10, 20000},
                           {"16 KiB", 16 << 10, 20000},
                           {"64 KiB", 64 << 10, 5000},
                           {"1 MiB", 1 << 20, 400},
                           {"32 MiB", 32 << 20, 15}};

GroupIdentity Identity(int rank, int ranks, const std::string& host, const std::string& own) {
  GroupIdentity identity;
  identity.rank = rank;
  identity.size = ranks;
  identity.endpoints.assign(static_cast<size_t>(ranks), "unix-abstract:another");
  identity.endpoints[0] = host;
  identity.endpoints[static_cast<size_t>(rank)] = own;
  return identity;
}

// What every rank does; rank 0 prints.
void RunCases(GroupChannel& channel, int tries) {
  Communicator& comm = channel.communicator();
  for (const Case& c : kCases) {
    std::vector<float> values(c.bytes / sizeof(float), 1e-30f);
    double best_median = 1e30, its_p99 = 0;
    for (int t = 0; t < tries; ++t) {
      std::vector<double> us;
      us.reserve(static_cast<size_t>(c.calls));
      CHECK_EQ(comm.Barrier(), absl::OkStatus());
      for (int i = 0; i < c.calls; ++i) {
        const auto begin = steady_clock::now();
        CHECK_EQ(comm.AllReduceSum(absl::MakeSpan(values)), absl::OkStatus());
        us.push_back(std::chrono::duration<double, std::micro>(steady_clock::now() - begin).count());
      }
      std::sort(us.begin(), us.end());
      if (us[us.size() / 2] < best_median) {
        best_median = us[us.size() / 2];
        its_p99 = us[us.size() * 99 / 100];
      }
      std::fill(values.begin(), values.end(), 1e-30f);  // Before the sums grow into infinity.
    }
    if (comm.rank() == 0) {
      std::printf("%8s  p50 %9.2f us  p99 %9.2f us  %6.2f GB/s\n", c.name, best_median, its_p99,
                  static_cast<double>(c.bytes) / best_median / 1e3);
      std::fflush(stdout);
    }
  }
}

int Run(int ranks, int tries, bool pin, const JoinOptions& options) {
  std::vector<UniqueFd> pipes;
  for (int rank = 1; rank < ranks; ++rank) {
    int fds[2];
    PCHECK(pipe(fds) == 0);
    const pid_t pid = fork();
    PCHECK(pid >= 0);
    if (pid != 0) {
      close(fds[0]);
      pipes.emplace_back(fds[1]);
      continue;
    }
    close(fds[1]);
    if (pin) bench::PinToCore(rank);
    char host[256];
    const ssize_t length = read(fds[0], host, sizeof(host));
    if (length <= 0) _exit(1);
    std::unique_ptr<Rendezvous> rendezvous = *Rendezvous::Start();
    auto channel = JoinGroup(
        *rendezvous, Identity(rank, ranks, std::string(host, static_cast<size_t>(length)), rendezvous->endpoint()),
        options);
    CHECK(channel.ok()) << channel.status();
    RunCases(**channel, tries);
    _exit(0);
  }
  if (pin) bench::PinToCore(0);
  std::unique_ptr<Rendezvous> rendezvous = *Rendezvous::Start();
  const std::string& endpoint = rendezvous->endpoint();
  for (const UniqueFd& pipe : pipes) PCHECK(write(pipe.get(), endpoint.data(), endpoint.size()) > 0);
  auto channel = JoinGroup(*rendezvous, Identity(0, ranks, endpoint, endpoint), options);
  CHECK(channel.ok()) << channel.status();
  RunCases(**channel, tries);
  int failed = 0;
  for (int status; wait(&status) > 0;) failed |= status;
  return failed == 0 ? 0 : 1;
}

int Main(int argc, char** argv) {
  int ranks = 2, tries = 5, slot_kib = 512;
  bool pin = true;
  for (int i = 1; i < argc; ++i) {
    absl::string_view value = argv[i];
    const bool known = absl::ConsumePrefix(&value, "--ranks=")      ? absl::SimpleAtoi(value, &ranks)
                       : absl::ConsumePrefix(&value, "--tries=")    ? absl::SimpleAtoi(value, &tries)
                       : absl::ConsumePrefix(&value, "--pin=")      ? absl::SimpleAtob(value, &pin)
                       : absl::ConsumePrefix(&value, "--slot-kib=") ? absl::SimpleAtoi(value, &slot_kib)
                                                                    : false;
    if (!known || ranks < 2 || ranks > kMaxRanks || tries < 1 || slot_kib < 4) {
      std::fprintf(stderr, "\"%s\": use --ranks=2..%d --tries=1.. --pin=true|false --slot-kib=4..\n", argv[i],
                   kMaxRanks);
      return 2;
    }
  }
  // A core for each, or none for any.
  if (ranks > static_cast<int>(std::thread::hardware_concurrency())) pin = false;
  bench::PrintMachine(argc, argv);
  std::printf("%d ranks, %s, best of %d rounds\n", ranks, pin ? "one core each" : "not pinned", tries);
  std::fflush(stdout);
  JoinOptions options;
  options.shape.slot_bytes = static_cast<uint64_t>(slot_kib) << 10;
  return Run(ranks, tries, pin, options);
}

}  // namespace
}  // namespace tandem::worker

int main(int argc, char** argv) { return tandem::worker::Main(argc, argv); }
