// What other threads may see of the engine's shard: heartbeats and Hellos are made of it.
//
// The engine changes it before it reports the change, so who heard of an end sees the group no more. Any thread may
// look.
#ifndef TANDEM_WORKER_ENGINE_SHARD_WINDOW_H_
#define TANDEM_WORKER_ENGINE_SHARD_WINDOW_H_

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "worker/engine/leader.h"
#include "worker/engine/report.h"
#include "worker/engine/request_log.h"
#include "worker/engine/shard.h"

namespace tandem::worker {

class ShardWindow {
 public:
  std::vector<ShardStatus> Status() const;
  std::vector<HeldRequest> Held(const GroupRef& group) const;

  // ---- of the engine thread. REQUIRES: `shard` lives until Close().
  void Open(const Shard& shard);
  void ShowModel(const Shard& shard);
  void ShowReady(const Leader* leader);  // null but on rank 0
  void Refresh(const Shard& shard, const Leader* leader);
  void Close();

 private:
  struct View {
    ShardStatus status;
    const std::atomic<uint64_t>* progress = nullptr;
    const std::atomic<bool>* busy = nullptr;
    std::shared_ptr<RequestLog> log;
  };
  mutable std::mutex mu_;
  std::optional<View> view_;  // Guarded by mu_.
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_SHARD_WINDOW_H_
