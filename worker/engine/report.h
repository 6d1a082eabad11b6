// What the engine says. Plain structs; scheduler_link translates them into the protocol.
#ifndef TANDEM_WORKER_ENGINE_REPORT_H_
#define TANDEM_WORKER_ENGINE_REPORT_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "worker/engine/command.h"
#include "worker/engine/update.h"
#include "worker/exec/executor.h"
#include "worker/kv/block_allocator.h"

namespace tandem::worker {

// Why a rank is out of its group. The words are those of the protocol.
enum class FailureReason {
  kBootstrap,
  kModelUnusable,
  kModelMismatch,
  kNeverFits,
  kNoCapacity,
  kPeerLost,
  kCommunicator,
  kEngineFault,
  kAborted,
  kStaleEpoch,
  kBusy,
};
absl::string_view Name(FailureReason reason);  // "PEER_LOST"

struct GroupFailure {
  FailureReason reason = FailureReason::kEngineFault;
  std::string message;  // One sentence, with numbers.
};

// A model loader speaks by status code: FAILED_PRECONDITION is another revision, OUT_OF_RANGE never fits the device,
// RESOURCE_EXHAUSTED does not fit now; all else makes the model unusable. While ranks load, UNAVAILABLE and ABORTED
// come from the communicator.
GroupFailure LoadFailure(const absl::Status& status);

// Of a step or a collective: UNAVAILABLE is a dead peer; ABORTED, DEADLINE_EXCEEDED and CANCELLED the communicator's
// end; all else a fault of the engine.
GroupFailure StepFailure(const absl::Status& status);

struct LoadedShard {
  MemoryReport memory;
  int64_t measured_growth_bytes = 0;  // Of the process over the load, private and resident.
  std::string numerics_id;
};

struct GroupFormed {
  GroupRef group;
  int rank = 0;
};
struct ModelLoaded {
  GroupRef group;
  int rank = 0;
  LoadedShard shard;
};
struct GroupReady {  // From rank 0, after a step went through all ranks.
  GroupRef group;
  int32_t kv_blocks = 0;
  uint32_t max_sequences = 0;
  int32_t max_model_len = 0;
  LoadedShard shard;
};
struct GroupFailed {
  GroupRef group;
  int rank = 0;
  GroupFailure failure;
};
struct GroupLeft {
  GroupRef group;
  int rank = 0;
};
struct CacheChanged {  // From rank 0.
  GroupRef group;
  BlockAllocator::Changes changes;
  bool whole = false;  // what is stored is all there is
};
struct StepDone {  // From rank 0: what the step did to its requests.
  GroupRef group;
  uint64_t step = 0;
  std::vector<RequestUpdate> updates;
  uint64_t line = 0;  // of the last ReplayEverything before it: what is of an earlier one comes again
};

using Report = std::variant<GroupFormed, ModelLoaded, GroupReady, GroupFailed, GroupLeft, CacheChanged, StepDone>;

// ---- what a worker holds, at any time -------------------------------------------------------------------------------

struct ShardStatus {
  GroupRef group;
  int rank = 0;
  int size = 1;
  std::string model;
  std::string revision;
  std::string deployment;  // of its LoadModel
  std::string numerics_id;
  bool ready = false;
  int32_t kv_blocks = 0;
  uint64_t progress = 0;  // Stands still only when idle or stuck.
  bool busy = false;      // A step is under way.
  // Of rank 0:
  int32_t free_blocks = 0;
  int32_t cached_blocks = 0;
  uint32_t running = 0;
  uint32_t waiting = 0;
  uint64_t steps = 0;
  uint64_t preemptions = 0;
  double step_us_mean = 0;
  double step_tokens_mean = 0;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_REPORT_H_
