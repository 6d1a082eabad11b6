// Everything that can happen to the core, in the past tense. Events are small: counts and names, never a prompt.
#ifndef TANDEM_SCHEDULER_CORE_EVENT_H_
#define TANDEM_SCHEDULER_CORE_EVENT_H_

#include <array>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "scheduler/core/types.h"

namespace tandem::core {

// ---- the installation ---------------------------------------------------------------------------------------------

enum class OnDeadline { kWait, kAbort, kMigrate };  // what becomes of requests that still run
// A drain that the core had accepted and that had not ended when the scheduler did.
struct KnownDrain {
  OperationId operation;
  std::vector<std::string> devices;  // by name; empty when a group is drained
  std::optional<GroupId> group;
  std::string reason;
  Duration left;  // until its deadline; not positive once that has passed
  OnDeadline on_deadline = OnDeadline::kWait;
  bool force = false;
  int requests_at_start = 0;
};
// First event of every run.
struct LeaderStarted {
  uint64_t leader_epoch = 0;
  int expected_devices = 0;  // known from the configuration; 0 = unknown. Fewer: wait for the reattach window
  // What the store kept of earlier runs; see kept.h. Their DeviceIds are their places in this list.
  std::vector<KnownDevice> devices;
  std::vector<KnownDrain> drains;
};
struct ModelConfigured {
  ModelSpec spec;
};
// Time passed and nothing else happened. Sent when Core::NextDeadline() is reached.
struct Ticked {};

// ---- workers ------------------------------------------------------------------------------------------------------

struct HeldRequest {
  RequestId request;
  Attempt attempt;
  Tokens prompt, output;
  bool ended = false;
};
struct HeldShard {
  GroupId group;
  GroupEpoch epoch;
  int rank = 0, size = 1;
  std::string model;
  bool ready = false;
  int32_t kv_blocks = 0;
  std::string numerics_id;
  std::vector<HeldRequest> requests;
  std::string deployment;  // what it was loaded with, as LoadModel said
};
struct WorkerAttached {
  DeviceSpec device;
  Incarnation incarnation;
  bool parked = false;
  std::vector<HeldShard> shards;
};
// The stream ended. `process_gone`: the process said so itself, or a supervisor did; else it may come back.
struct WorkerDetached {
  DeviceId device;
  Incarnation incarnation;
  bool process_gone = false;
  std::string why;
};
struct GroupLoad {
  GroupId group;
  GroupEpoch epoch;
  uint64_t progress = 0;
  bool busy = false;
  bool rank0 = false;  // the rest is set by rank 0 only
  int32_t free_blocks = 0;
  int32_t running = 0;
  int32_t waiting = 0;
  uint64_t steps = 0;
  uint64_t preemptions = 0;
  int64_t step_us = 0;      // mean of the recent steps
  int64_t step_tokens = 0;  // that each computed
};
struct HeartbeatReceived {
  DeviceId device;
  Incarnation incarnation;
  Bytes memory_free;
  Bytes memory_process;  // held by the worker process itself
  std::vector<GroupLoad> loads;
};

// A driver's or a device's own word on its health.
struct HealthReported {
  DeviceId device;
  Incarnation incarnation;
  std::string code;  // "XID 79"
  std::string message;
  bool lasting = false;  // it holds until it is cleared; else it happened, and that was all
  bool cleared = false;  // what was reported under this code holds no more
};

// ---- groups -------------------------------------------------------------------------------------------------------

struct GroupFormed {
  DeviceId device;
  GroupId group;
  GroupEpoch epoch;
};
struct ModelLoaded {
  DeviceId device;
  GroupId group;
  GroupEpoch epoch;
  Bytes static_bytes;  // measured: weights, packed copies, activations
};
struct GroupReady {
  DeviceId device;
  GroupId group;
  GroupEpoch epoch;
  int32_t kv_blocks = 0;
  int32_t block_tokens = 16;
  int32_t max_sequences = 0;
  int32_t max_model_len = 0;
  Bytes kv_bytes;  // of rank 0
  std::string numerics_id;
};
enum class GroupFailure {
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
// This rank is out of the group, for a reason of its own.
struct GroupFailed {
  DeviceId device;
  GroupId group;
  GroupEpoch epoch;
  GroupFailure failure = GroupFailure::kEngineFault;
  std::string message;
};
// This rank is out of the group, as it was told.
struct GroupLeft {
  DeviceId device;
  GroupId group;
  GroupEpoch epoch;
};

// ---- links --------------------------------------------------------------------------------------------------------

// From rank 0 of the probe.
struct LinkMeasured {
  DeviceId device;
  uint64_t probe = 0;
  int64_t small_ns = 0;          // one small message
  int64_t bytes_per_second = 0;  // of large ones
};
// From either rank: it did not come to a figure, or had better things to do.
struct LinkProbeFailed {
  DeviceId device;
  uint64_t probe = 0;
  std::string message;
};

// From rank 0, from time to time: what its cache came to hold, and let go of. See prefix_index.h.
struct CacheChanged {
  DeviceId device;
  GroupId group;
  GroupEpoch epoch;
  bool whole = false;  // what it said before is void
  std::vector<uint64_t> stored, evicted;
};

// ---- requests -----------------------------------------------------------------------------------------------------

struct RequestArrived {
  RequestId request;
  std::string model;  // name or alias
  Tokens prompt;
  Tokens known_output;               // resume_token_ids
  std::optional<Tokens> max_tokens;  // unset: what the context leaves
  std::optional<Duration> deadline;  // from now
  int priority = 0;
  std::string tenant;
  std::vector<uint64_t> prefix;  // landmarks of the prompt, see prefix_index.h
  Bytes bytes;                   // that the shell keeps of it while it waits
  std::string caller_id;         // as its caller's own logs name it; empty: it said nothing
  std::string trace_id;          // of the distributed trace that it is part of, 32 hex digits; empty: of none
};
enum class CancelCause { kClientLeft, kClientAsked, kAdminAsked };
struct RequestCancelled {
  RequestId request;
  CancelCause cause = CancelCause::kClientLeft;
};
// After a start: rank 0 of a group of an earlier scheduler computes this request, and has told the router its tokens.
// What happened to it (started, preempted, ended) follows as for any other.
struct RequestFound {
  RequestId request;
  Attempt attempt;
  GroupId group;
  GroupEpoch epoch;
  DeviceId rank0;
  std::string model;
  Tokens prompt;
  Tokens output;  // so far, all attempts together
  Tokens max_tokens;
  std::string numerics_id;           // of the group
  std::optional<Duration> deadline;  // from now
  Duration age;                      // since it arrived
  int priority = 0;
  std::string tenant;
  std::vector<uint64_t> prefix;
  Bytes bytes;                      // as of RequestArrived
  std::string caller_id, trace_id;  // likewise
};
// From rank 0, in this order: started, [computed], (preempted, started, [computed])*, ended.
struct RequestStarted {
  RequestId request;
  Attempt attempt;
  Tokens cached;
  Tokens output;  // what the router knew of it already: 0 but for one that goes on from elsewhere
};
// Its first token since it started came: the prompt is computed, and holds up nobody any more.
struct RequestComputed {
  RequestId request;
  Attempt attempt;
};
struct RequestPreempted {
  RequestId request;
  Attempt attempt;
};
enum class EndedHow { kStopped, kLengthReached, kAborted, kRefused, kFault };
struct RequestEnded {
  RequestId request;
  Attempt attempt;
  EndedHow how = EndedHow::kStopped;
  Tokens output;
  std::string message;
};
// From the router: a stop string was found. The client has its end already; the engine does not know yet.
struct RequestStopped {
  RequestId request;
  Attempt attempt;
  Tokens output;  // delivered
};

// From the router: what the engine said of its tokens cannot be: one is missing, another changed. The client has been
// told ENGINE_FAULT; of any attempt, since nothing can make the answer whole again.
struct RequestSpoiled {
  RequestId request;
  std::string message;
};

// ---- operators ----------------------------------------------------------------------------------------------------

struct CordonRequested {
  DeviceId device;
  std::string reason;
};
struct UncordonRequested {
  DeviceId device;
};
// A group is drained by draining `group`; else all groups of `devices`, and the devices themselves.
struct DrainRequested {
  OperationId operation;  // chosen by the shell
  std::vector<DeviceId> devices;
  std::optional<GroupId> group;
  std::string reason;
  Duration deadline;
  OnDeadline on_deadline = OnDeadline::kMigrate;
  bool force = false;
};
struct UndrainRequested {
  DeviceId device;
};
// `model` is the next free id, for a name that is new; or that of the model of the name, which then gets this shape.
struct DeployRequested {
  ModelId model;
  ModelSpec spec;
  std::string reason;
};
struct UndeployRequested {
  ModelId model;
  std::string reason;
};
struct ScaleRequested {
  ModelId model;
  int replicas_min = 1, replicas_max = 1;
  std::string reason;
};

using Event =
    std::variant<LeaderStarted, ModelConfigured, Ticked, WorkerAttached, WorkerDetached, HeartbeatReceived, GroupFormed,
                 ModelLoaded, GroupReady, GroupFailed, GroupLeft, LinkMeasured, LinkProbeFailed, RequestArrived,
                 RequestCancelled, RequestStarted, RequestComputed, RequestPreempted, RequestEnded, RequestStopped,
                 CordonRequested, UncordonRequested, DrainRequested, UndrainRequested, HealthReported, RequestFound,
                 DeployRequested, UndeployRequested, ScaleRequested, CacheChanged, RequestSpoiled>;

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_EVENT_H_
