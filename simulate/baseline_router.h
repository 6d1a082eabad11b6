// Lets a policy be the router: what it chooses is sent at once, and nothing is refused.
#ifndef TANDEM_SIMULATE_BASELINE_ROUTER_H_
#define TANDEM_SIMULATE_BASELINE_ROUTER_H_

#include <memory>
#include <utility>

#include "simulate/policy.h"
#include "simulate/router.h"

namespace tandem::simulate {

class BaselineRouter : public Router {
 public:
  explicit BaselineRouter(std::unique_ptr<Policy> policy) : policy_(std::move(policy)) {}

  Prefixes prefixes() const override { return policy_->prefixes(); }
  void Arrive(int64_t now, const Arrival& arrival, Decisions& out) override;
  void Hear(int64_t now, uint32_t group, const worker::RequestUpdate& update, Decisions& out) override;
  void CacheChanged(int64_t now, uint32_t group, const worker::BlockAllocator::Changes& changes,
                    Decisions& out) override;

 private:
  const std::unique_ptr<Policy> policy_;
};

}  // namespace tandem::simulate

#endif  // TANDEM_SIMULATE_BASELINE_ROUTER_H_
