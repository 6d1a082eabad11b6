// A Store that lives as long as its owner lets it: for tests, the simulator, and a scheduler without a state folder.
// Faults are ordered from outside, so that what a full disk does can be tested without one.
#ifndef TANDEM_SCHEDULER_STORE_MEMORY_STORE_H_
#define TANDEM_SCHEDULER_STORE_MEMORY_STORE_H_

#include <functional>
#include <map>
#include <string>
#include <utility>

#include "scheduler/store/store.h"

namespace tandem::scheduler::store {

class MemoryStore : public Store {
 public:
  absl::Status Commit(const Batch& batch) override;
  absl::StatusOr<Snapshot> Load() override;

  // Asked before each commit; what is not OK is its answer. Null: none fails.
  void set_fault(std::function<absl::Status()> fault) { fault_ = std::move(fault); }

 private:
  std::function<absl::Status()> fault_;
  uint64_t leader_epoch_ = 0;
  std::map<std::string, Device> devices_;
  std::map<uint64_t, Operation> operations_;
  std::map<std::string, Deployment> deployments_;
};

}  // namespace tandem::scheduler::store

#endif  // TANDEM_SCHEDULER_STORE_MEMORY_STORE_H_
