// How the ranks of a simulated group meet: shared memory without memory.
//
// A Meeting stands for the memory that the ranks of one group and epoch share. Its communicator and its queue of plans
// keep the promises of worker/comm word for word, in the order in which GroupMember::Wait answers: what was waited for,
// then an abort, then a dead peer, then the deadline.
#ifndef TANDEM_TESTS_SIM_SIM_GROUP_H_
#define TANDEM_TESTS_SIM_SIM_GROUP_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/sim/process.h"
#include "tests/sim/world.h"
#include "worker/comm/group_channel.h"

namespace tandem::sim {

class Meeting {
 public:
  Meeting(World* world, int size) : world_(world), processes_(size), dead_(size), rounds_done_(size) {}

  // The rank's process; a rank that comes twice is refused.
  absl::Status Join(int rank, std::shared_ptr<Process> process);
  bool complete() const;

  void Abort(int rank, absl::string_view reason);
  void NoteDeath(const Process* process);
  bool has(const Process* process) const;

  absl::Status Health() const;
  // Hands in `mine`, and has what every rank handed in once all have.
  absl::StatusOr<std::vector<std::string>> Exchange(int rank, std::string mine);

  void Publish(std::string plan);
  const std::vector<std::string>& plans() const { return plans_; }

  int size() const { return static_cast<int>(processes_.size()); }
  Process& process(int rank) { return *processes_[rank]; }
  World& world() { return *world_; }

 private:
  struct Round {
    std::vector<std::optional<std::string>> handed_in;
    int taken = 0;
  };
  void WakeAll();

  World* const world_;
  std::vector<std::shared_ptr<Process>> processes_;
  std::vector<bool> dead_;
  std::vector<uint64_t> rounds_done_;
  std::map<uint64_t, Round> rounds_;
  std::vector<std::string> plans_;
  std::optional<std::string> aborted_;
};

// All groups that form or live, by id and epoch.
class MeetingPlace {
 public:
  explicit MeetingPlace(World* world) : world_(world) {}

  // As JoinGroup(): blocks `process` until all ranks are there.
  absl::StatusOr<std::unique_ptr<worker::GroupChannel>> Join(const worker::GroupIdentity& identity,
                                                             std::shared_ptr<Process> process,
                                                             const std::atomic<bool>* cancelled);
  // Its peers find out within a tenth of a second.
  void NoteDeath(const std::shared_ptr<Process>& process);

 private:
  World* const world_;
  std::map<std::pair<uint64_t, worker::GroupEpoch>, std::weak_ptr<Meeting>> meetings_;
};

}  // namespace tandem::sim

#endif  // TANDEM_TESTS_SIM_SIM_GROUP_H_
