// Ray Serve's router and one of the SGLang gateway's: of two replicas drawn at random the one with fewer requests on
// the way. (SGLang's compares token usage where both engines report it; by requests otherwise, which is what is here.)
#include <random>

#include "simulate/policy.h"

namespace tandem::simulate {
namespace {

class PowerOfTwo : public Policy {
 public:
  PowerOfTwo(uint32_t groups, uint64_t seed) : open_(groups), random_(seed) {}

  uint32_t Choose(const Arrival&) override {
    const uint64_t groups = open_.size();
    uint32_t a = static_cast<uint32_t>(random_() % groups), b = a;
    if (groups > 1) b = static_cast<uint32_t>((a + 1 + random_() % (groups - 1)) % groups);
    const uint32_t chosen = open_[b] < open_[a] ? b : a;
    ++open_[chosen];
    return chosen;
  }
  void Ended(uint32_t group, uint32_t) override { --open_[group]; }

 private:
  std::vector<int64_t> open_;
  std::mt19937_64 random_;
};

}  // namespace

std::unique_ptr<Policy> MakePowerOfTwo(uint32_t groups, uint64_t seed) {
  return std::make_unique<PowerOfTwo>(groups, seed);
}

}  // namespace tandem::simulate
