// The rule of every load balancer that knows nothing.
#include "simulate/policy.h"

namespace tandem::simulate {
namespace {

class RoundRobin : public Policy {
 public:
  explicit RoundRobin(uint32_t groups) : groups_(groups) {}
  uint32_t Choose(const Arrival&) override { return next_++ % groups_; }

 private:
  const uint32_t groups_;
  uint32_t next_ = 0;
};

}  // namespace

std::unique_ptr<Policy> MakeRoundRobin(uint32_t groups) { return std::make_unique<RoundRobin>(groups); }

}  // namespace tandem::simulate
