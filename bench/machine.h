// What a benchmark prints on top, and how it measures what the machine can do at best.
#ifndef TANDEM_BENCH_MACHINE_H_
#define TANDEM_BENCH_MACHINE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace tandem::bench {

// Prints processor, cores, load of the last minute, and the command line.
void PrintMachine(int argc, char** argv);

// Seconds on a clock that never falls.
double Now();

double Median(std::vector<double> values);

// 1 GiB to read with wide loads and no arithmetic to wait for: what the memory gives one thread, now. A virtual
// machine's bandwidth changes by a third from minute to minute, so a figure is set against a probe of the same second.
class BandwidthProbe {
 public:
  BandwidthProbe();
  ~BandwidthProbe();
  BandwidthProbe(const BandwidthProbe&) = delete;
  BandwidthProbe& operator=(const BandwidthProbe&) = delete;

  double Read() const;  // bytes per second of one pass

 private:
  static constexpr size_t kBytes = size_t{1} << 30;
  void* const memory_;
};

// Keeps this process on one core. What several ranks measure together they measure on cores of their own.
void PinToCore(int core);

}  // namespace tandem::bench

#endif  // TANDEM_BENCH_MACHINE_H_
