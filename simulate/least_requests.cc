// LiteLLM's least-busy and most proxies' least-connections: who has the fewest requests on the way.
#include <algorithm>

#include "simulate/policy.h"

namespace tandem::simulate {
namespace {

class LeastRequests : public Policy {
 public:
  explicit LeastRequests(uint32_t groups) : open_(groups) {}

  uint32_t Choose(const Arrival&) override {
    const auto least = std::min_element(open_.begin(), open_.end());
    ++*least;
    return static_cast<uint32_t>(least - open_.begin());
  }
  void Ended(uint32_t group, uint32_t) override { --open_[group]; }

 private:
  std::vector<int64_t> open_;
};

}  // namespace

std::unique_ptr<Policy> MakeLeastRequests(uint32_t groups) { return std::make_unique<LeastRequests>(groups); }

}  // namespace tandem::simulate
