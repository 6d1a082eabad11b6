#include "bench/machine.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "glog/logging.h"

namespace tandem::bench {

void PrintMachine(int argc, char** argv) {
  std::string model = "unknown";
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) == 0) {
      model = line.substr(line.find(':') + 2);
      break;
    }
  }
  double load = 0;
  getloadavg(&load, 1);
  std::printf("machine: %s, %ld cores, load %.2f before the start\ncommand:", model.c_str(),
              sysconf(_SC_NPROCESSORS_ONLN), load);
  for (int i = 0; i < argc; ++i)
    std::printf(" %s", i == 0 ? (std::strrchr(argv[0], '/') ? std::strrchr(argv[0], '/') + 1 : argv[0]) : argv[i]);
  std::printf("\n");
}

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Four independent sums of 64 bytes each keep every load port busy; the compiler may not drop them, since they are
// returned.
__attribute__((noinline, target_clones("avx512f", "avx2", "default"))) static uint64_t Sum(const uint64_t* data,
                                                                                           size_t words) {
  uint64_t lanes[32] = {};
  for (size_t i = 0; i + 32 <= words; i += 32) {
    for (int k = 0; k < 32; ++k) lanes[k] += data[i + k];
  }
  uint64_t sum = 0;
  for (uint64_t lane : lanes) sum += lane;
  return sum;
}

BandwidthProbe::BandwidthProbe()
    : memory_(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
  CHECK(memory_ != MAP_FAILED) << "no 1 GiB to read";
  madvise(memory_, kBytes, MADV_HUGEPAGE);
  std::memset(memory_, 1, kBytes);
}

BandwidthProbe::~BandwidthProbe() { munmap(memory_, kBytes); }

double BandwidthProbe::Read() const {
  const double begin = Now();
  const uint64_t sum = Sum(static_cast<const uint64_t*>(memory_), kBytes / 8);
  const double seconds = Now() - begin;
  CHECK_NE(sum, 0u);
  return kBytes / seconds;
}

double Median(std::vector<double> values) {
  CHECK(!values.empty());
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

void PinToCore(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core % sysconf(_SC_NPROCESSORS_ONLN), &set);
  CHECK_EQ(sched_setaffinity(0, sizeof(set), &set), 0);
}

}  // namespace tandem::bench
