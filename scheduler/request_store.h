// All requests that the scheduler answers for, by id and by (tenant, idempotency key): those that live, and those that
// ended within the retention, so that a broken stream can be taken up again.
//
// Ended ones are bounded by time and by bytes; the oldest go first. Living ones are bounded by the core's waiting room
// and by what groups run. Any thread may call; the table is split, so that streams of tokens do not meet at one lock.
#ifndef TANDEM_SCHEDULER_REQUEST_STORE_H_
#define TANDEM_SCHEDULER_REQUEST_STORE_H_

#include <array>
#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "scheduler/core/types.h"
#include "scheduler/request_stream.h"

namespace tandem::scheduler {

class RequestStore {
 public:
  struct Limits {
    core::Duration retention = core::Seconds(60);
    size_t ended_bytes = 64 << 20;
  };
  explicit RequestStore(const Limits& limits) : limits_(limits) {}

  // Takes `stream` in, unless its key names another request already: then that one is returned. One that has failed
  // or was left gives its key away.
  std::shared_ptr<RequestStream> AddOrFind(std::shared_ptr<RequestStream> stream);
  // `stream` takes the place of one with the same id that lives and that nobody reads.
  void Replace(std::shared_ptr<RequestStream> stream);
  std::shared_ptr<RequestStream> Find(core::RequestId id) const;
  std::shared_ptr<RequestStream> FindByKey(const std::string& tenant, const std::string& key) const;
  // It never entered the core, or nothing can be read from it.
  void Remove(const RequestStream& stream);
  // The core has let it go: kept for the retention, then dropped by Expire.
  void Retire(const std::shared_ptr<RequestStream>& stream, core::Instant now);
  void Expire(core::Instant now);

  // Those that live, in the order of their ids.
  std::vector<std::shared_ptr<RequestStream>> Living() const;
  size_t living() const { return living_.load(std::memory_order_relaxed); }

 private:
  struct Hash {
    size_t operator()(core::RequestId id) const { return id.lo; }  // random already
  };
  struct Entry {
    std::shared_ptr<RequestStream> stream;
    bool retired = false;
  };
  struct Shard {
    mutable absl::Mutex mu;
    absl::flat_hash_map<core::RequestId, Entry, Hash> entries ABSL_GUARDED_BY(mu);
  };
  static constexpr size_t kShards = 16;
  Shard& ShardOf(core::RequestId id) { return shards_[id.hi % kShards]; }
  const Shard& ShardOf(core::RequestId id) const { return shards_[id.hi % kShards]; }
  bool Erase(const RequestStream& stream);

  struct Retired {
    core::Instant until;
    size_t bytes;
    std::shared_ptr<RequestStream> stream;
  };

  const Limits limits_;
  std::array<Shard, kShards> shards_;
  std::atomic<size_t> living_{0};

  mutable absl::Mutex keys_mu_;
  absl::flat_hash_map<std::pair<std::string, std::string>, core::RequestId> keys_ ABSL_GUARDED_BY(keys_mu_);

  absl::Mutex retired_mu_;
  std::deque<Retired> retired_ ABSL_GUARDED_BY(retired_mu_);
  size_t retired_bytes_ ABSL_GUARDED_BY(retired_mu_) = 0;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_REQUEST_STORE_H_
