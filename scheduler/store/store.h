// What the scheduler must know after it was killed: devices with the wishes about them, and what operators asked for.
//
// A Store keeps it, and nothing else is kept: what runs is told by the workers. Commit is all or nothing, and what it
// answered OK survives kill -9 and loss of power. Synchronous, and for one thread at a time (store_thread.h owns one).
//
// Times are microseconds since 1970 on the wall clock: they must mean the same after a reboot.
#ifndef TANDEM_SCHEDULER_STORE_STORE_H_
#define TANDEM_SCHEDULER_STORE_STORE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem::scheduler::store {

// A device that was seen, and what is wanted of it. By (node, index), since a wish holds for a replaced card too.
struct Device {
  std::string node;
  uint32_t index = 0;
  std::string kind, model, uuid;
  int64_t memory_budget = 0;
  bool cordoned = false;
  bool drained = false;
  int32_t quarantined = 0;  // the number of the quarantine that it is in; 0: it is in none
  std::string reason;
  int64_t since_us = 0;  // of the wishes; 0 without one
  int64_t seen_us = 0;   // when this row was written last
  bool operator==(const Device&) const = default;
  std::string Name() const { return "nodes/" + node + "/devices/" + std::to_string(index); }
};

// What an operator asked for. It is written before it is done: after a crash an unfinished one is done again.
struct Operation {
  enum class State { kAsked, kRunning, kDone, kUndone, kRefused };
  uint64_t id = 0;      // leader epoch and counter; later ones are greater
  std::string verb;     // drain, cordon, uncordon, undrain, deploy, undeploy, scale
  std::string key;      // idempotency key; may be empty
  std::string request;  // hash of all that was asked, to tell a repeated call from another one with its key
  std::vector<std::string> devices;
  uint64_t group = 0;  // 0: devices
  std::string reason;
  std::string on_deadline;
  bool force = false;
  int64_t deadline_us = 0;
  int32_t requests_at_start = 0;
  State state = State::kAsked;
  std::string refused;  // the core's word, where it was
  std::string message;  // how it ended
  int64_t asked_us = 0;
  bool operator==(const Operation&) const = default;
  bool Ended() const { return state != State::kAsked && state != State::kRunning; }
};

// What an operator made of a model at run time, on top of what the configuration file says of it.
struct Deployment {
  std::string name;
  std::string spec;  // as the shell writes it; empty: it is not served, though the file names it
  std::string base;  // hash of the file's entry that it is on top of; empty: the file had none
  std::string reason;
  int64_t since_us = 0;
  bool operator==(const Deployment&) const = default;
};

// Changes, in any number; of two with one key the later counts.
struct Batch {
  std::vector<Device> devices;
  std::vector<std::string> forgotten_devices;  // by name
  std::vector<Operation> operations;
  std::vector<uint64_t> withdrawn;  // operations that were never done
  std::vector<Deployment> deployments;
  std::vector<std::string> forgotten_deployments;  // by name; done before `deployments`
  std::optional<uint64_t> leader_epoch;
};

struct Snapshot {
  uint64_t leader_epoch = 0;            // of the last run; 0: none yet
  std::vector<Device> devices;          // by name
  std::vector<Operation> operations;    // by id
  std::vector<Deployment> deployments;  // by name
  bool operator==(const Snapshot&) const = default;
};

// A repeated call is answered from the ended operations; more than so many are no use to anyone.
inline constexpr int kMostEnded = 1024;

class Store {
 public:
  virtual ~Store() = default;
  // On failure nothing of the batch is kept, as far as anybody can tell, and it may be tried again.
  // RESOURCE_EXHAUSTED: the disk is full. UNAVAILABLE: reading or writing failed.
  virtual absl::Status Commit(const Batch& batch) = 0;
  virtual absl::StatusOr<Snapshot> Load() = 0;
};

}  // namespace tandem::scheduler::store

#endif  // TANDEM_SCHEDULER_STORE_STORE_H_
