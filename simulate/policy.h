// The rules of other routers, as far as they decide between groups: one file each, written from what their projects
// publish. Each keeps its own account of the groups from what it sent and what it heard.
//
// All of them send a request the moment it arrives, and the engines queue; so do the routers that they come from.
#ifndef TANDEM_SIMULATE_POLICY_H_
#define TANDEM_SIMULATE_POLICY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "simulate/router.h"
#include "worker/kv/block_allocator.h"

namespace tandem::simulate {

class Policy {
 public:
  virtual ~Policy() = default;
  virtual Router::Prefixes prefixes() const { return Router::Prefixes::kNone; }
  // The group that takes the request, which is then counted as sent.
  virtual uint32_t Choose(const Arrival& arrival) = 0;
  virtual void FirstToken(uint32_t /*group*/, uint32_t /*request*/) {}
  virtual void Ended(uint32_t /*group*/, uint32_t /*request*/) {}
  virtual void CacheChanged(uint32_t /*group*/, const worker::BlockAllocator::Changes&) {}
};

// One after the other.
std::unique_ptr<Policy> MakeRoundRobin(uint32_t groups);
// The group with the fewest requests that were sent and have not ended; the lowest of equals.
std::unique_ptr<Policy> MakeLeastRequests(uint32_t groups);
// Of two that are drawn the one with fewer such requests.
std::unique_ptr<Policy> MakePowerOfTwo(uint32_t groups, uint64_t seed);
std::unique_ptr<Policy> MakeSglangCacheAware(uint32_t groups);
std::unique_ptr<Policy> MakeDynamoKv(uint32_t groups);

}  // namespace tandem::simulate

#endif  // TANDEM_SIMULATE_POLICY_H_
