// The engines of one device: one EngineLoop, and so one thread, for each group that the device is in (DESIGN 5).
//
// A device is in at most one group of several ranks, and any number of groups of one. Each loads and forms without
// holding up the others; a DeviceTurn lets one compute at a time, the group of several ranks first. A follower that
// waits for a plan has no turn, so the others fill its gaps.
//
// Commands go to the engine of their group; what concerns the device goes to all. A FormGroup gets an engine that is in
// no group, or a new one; where the device is full, the answer is BUSY.
//
// Any thread. Reports come from the engines' threads, several at a time.
#ifndef TANDEM_WORKER_ENGINE_DEVICE_ENGINES_H_
#define TANDEM_WORKER_ENGINE_DEVICE_ENGINES_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "worker/engine/command.h"
#include "worker/engine/device_turn.h"
#include "worker/engine/engine_loop.h"
#include "worker/engine/report.h"

namespace tandem::worker {

class DeviceEngines {
 public:
  // Of one device. A thread and its tables are little; what bounds the groups is memory.
  static constexpr size_t kMostGroups = 32;
  // A single rank beside others takes turns this long at most, where it would take longer alone.
  static constexpr uint32_t kSharedStepMs = 50;

  // `options.services.turn` is set here.
  explicit DeviceEngines(EngineLoop::Options options);
  ~DeviceEngines();  // Stops and waits.

  // As EngineLoop's.
  bool Post(Command command);
  bool WaitUntilStopped(std::chrono::milliseconds timeout);
  std::chrono::milliseconds AbortOverdue() const;
  std::string Occupied() const;
  std::vector<ShardStatus> Status() const;
  std::vector<HeldRequest> Held(const GroupRef& group) const;

 private:
  struct Seat {
    std::unique_ptr<EngineLoop> loop;
    std::optional<GroupRef> group;  // That it was told to form and has not left.
    int ranks = 0;
  };

  bool PostTo(size_t seat, Command command);
  bool PostToAll(const Command& command);
  size_t SeatOf(const GroupRef& group) const;  // REQUIRES: mu_ is held, as for these:
  size_t SeatFor(const GroupIdentity& identity);
  size_t AddSeat();
  void Report(tandem::worker::Report report);
  std::vector<EngineLoop*> Loops() const;  // they live as long as this

  const EngineLoop::Options options_;
  DeviceTurn turn_;

  mutable std::mutex mu_;
  std::vector<Seat> seats_;          // Guarded by mu_, as are:
  std::map<uint64_t, size_t> seen_;  // By group id, the last kMostSeen: an order that comes late meets who knows it.
  std::optional<ObeyLeader> leader_;
  std::optional<ReplayEverything> line_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_DEVICE_ENGINES_H_
