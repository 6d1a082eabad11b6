// Who decides which group a request goes to: the scheduler's core, or a rule of another router. Everything else of the
// simulation is the same for all of them.
//
// A router hears what a service's hears, at the time at which it hears it: a request when it arrives, and the engines'
// words one hop after they were said. Times are nanoseconds of the simulation. One thread.
#ifndef TANDEM_SIMULATE_ROUTER_H_
#define TANDEM_SIMULATE_ROUTER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/prefix_hash/prefix_hash.h"
#include "worker/engine/update.h"
#include "worker/kv/block_allocator.h"

namespace tandem::simulate {

struct Arrival {
  uint32_t request = 0;  // its place in the trace
  uint32_t prompt_tokens = 0;
  absl::string_view tenant;
  absl::Span<const PrefixHash> blocks;   // hashes of its full blocks, where the router asked for them
  absl::Span<const uint64_t> landmarks;  // of its beginning, likewise
};

struct Decisions {
  struct Sent {
    uint32_t request;
    uint32_t group;
    worker::GroupEpoch attempt;
  };
  struct Refused {
    uint32_t request;
    std::string reason;
  };
  std::vector<Sent> sent;
  std::vector<Refused> refused;
};

class Router {
 public:
  virtual ~Router() = default;

  // What it is to know of a prompt, and of what engines hold.
  enum class Prefixes { kNone, kLandmarks, kBlocks };
  virtual Prefixes prefixes() const = 0;

  virtual void Arrive(int64_t now, const Arrival& arrival, Decisions& out) = 0;
  // A request that this router sent was started, preempted, ended, or has its first token.
  virtual void Hear(int64_t now, uint32_t group, const worker::RequestUpdate& update, Decisions& out) = 0;
  // What its cache came to hold and let go of.
  virtual void CacheChanged(int64_t, uint32_t, const worker::BlockAllocator::Changes&, Decisions&) {}

  // When Wake is due; INT64_MAX: never.
  virtual int64_t next_wake() const { return INT64_MAX; }
  virtual void Wake(int64_t, Decisions&) {}
};

}  // namespace tandem::simulate

#endif  // TANDEM_SIMULATE_ROUTER_H_
