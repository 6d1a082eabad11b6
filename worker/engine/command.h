// What the engine can be told. Plain structs; scheduler_link translates the protocol into them.
#ifndef TANDEM_WORKER_ENGINE_COMMAND_H_
#define TANDEM_WORKER_ENGINE_COMMAND_H_

#include <compare>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "worker/comm/group_identity.h"
#include "worker/engine/request.h"

namespace tandem::worker {

// A group's name: each time it forms anew, the epoch grows.
struct GroupRef {
  uint64_t id = 0;
  GroupEpoch epoch;

  friend auto operator<=>(const GroupRef&, const GroupRef&) = default;
  std::string ToString() const { return DescribeGroup(id, epoch); }
};

inline GroupRef RefOf(const GroupIdentity& identity) { return {.id = identity.group_id, .epoch = identity.epoch}; }

struct FileEntry {
  std::string name;
  uint64_t bytes = 0;
  std::string sha256;  // 32 raw bytes
};

// What a rank shall load, and how much it may take.
struct LoadSpec {
  std::string model;  // its name, for messages
  std::string path;
  std::vector<FileEntry> manifest;
  std::string task = "generate";  // generate, embed, rerank
  std::string dtype = "auto";
  uint32_t max_model_len = 0;  // 0: what the model was made for
  uint32_t max_sequences = 0;
  uint32_t max_batch_tokens = 0;
  uint64_t kv_min_bytes = 0;     // of this rank
  uint64_t kv_target_bytes = 0;  // never more
  uint32_t step_budget_ms = 0;
  bool prefix_cache = true;
  std::string deployment;  // the scheduler's word for all of this; said again when it asks what is held
};

struct FormGroup {
  GroupIdentity identity;
};
struct LoadModel {
  GroupRef group;
  LoadSpec spec;
};
struct DissolveGroup {
  GroupRef group;
};
struct AbortGroup {
  GroupRef group;
  std::string reason;
};
struct AssignRequest {
  GroupRef group;
  Request request;
};
struct AbortAttempt {
  GroupRef group;
  AttemptId id;
  std::string reason;
};
struct AcknowledgeEnd {
  std::vector<AttemptId> ids;
};
// Tell all that is logged once more: the stream of tokens broke, or its reader is new. From here on steps bear this
// line's number, so that none of the old line gets before the replay.
struct ReplayEverything {
  uint64_t line = 0;
};
// A scheduler of this leader epoch answered, with its terms. What earlier ones ask for is no longer begun.
struct ObeyLeader {
  uint64_t leader_epoch = 0;
  SteadyTime::duration retention{};  // of an ended request's log, after it was acknowledged
};
// Leaves every group at once: the scheduler was away for too long.
struct AbortEverything {
  std::string reason;
};
// Leaves every group and ends the engine thread.
struct Stop {
  std::string reason;
};

using Command = std::variant<FormGroup, LoadModel, DissolveGroup, AbortGroup, AssignRequest, AbortAttempt,
                             AcknowledgeEnd, ReplayEverything, ObeyLeader, AbortEverything, Stop>;

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_COMMAND_H_
