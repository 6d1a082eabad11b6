// The simulator's only source of chance: equal seeds draw equal numbers on every machine.
#ifndef TANDEM_TESTS_SIM_RANDOM_H_
#define TANDEM_TESTS_SIM_RANDOM_H_

#include <cstdint>

namespace tandem::sim {

// SplitMix64: every seed is a good one, 0 and 1 too.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  // 0 .. bound - 1. REQUIRES: bound >= 1.
  int64_t Below(int64_t bound) { return static_cast<int64_t>(Next() % static_cast<uint64_t>(bound)); }
  int64_t Between(int64_t least, int64_t most) { return least + Below(most - least + 1); }
  bool Chance(int64_t per_thousand) { return Below(1000) < per_thousand; }

 private:
  uint64_t state_;
};

}  // namespace tandem::sim

#endif  // TANDEM_TESTS_SIM_RANDOM_H_
