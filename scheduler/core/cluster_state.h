// All that the core knows: devices, groups, models, requests, drains. Plain readable data; the shell's admin views and
// explain read it, the files of each noun change it, CheckInvariants (invariants.h) says what must hold between steps.
//
// Owned by Core, touched by its one thread. Tables are dense or ordered; the two hash indexes are looked up and never
// iterated, so that equal histories give equal results in every process. Elements do not move while they live.
#ifndef TANDEM_SCHEDULER_CORE_CLUSTER_STATE_H_
#define TANDEM_SCHEDULER_CORE_CLUSTER_STATE_H_

#include <array>
#include <compare>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/strings/string_view.h"
#include "scheduler/core/action.h"
#include "scheduler/core/event.h"
#include "scheduler/core/group_index.h"
#include "scheduler/core/output_history.h"
#include "scheduler/core/pace.h"
#include "scheduler/core/placement_report.h"
#include "scheduler/core/prefix_index.h"
#include "scheduler/core/types.h"
#include "scheduler/core/waiting_line.h"

namespace tandem::core {

// ---- devices ------------------------------------------------------------------------------------------------------

// A group of an earlier life that the worker still holds and was told to leave. Until it did, its device is not free.
struct Leftover {
  GroupId group;
  GroupEpoch epoch;
  auto operator<=>(const Leftover&) const = default;
};

// What is wrong with a device by its own word, and what was done about it; see health.h.
struct Ailment {
  std::string code;
  std::string message;
  HealthAction action = HealthAction::kLog;  // that was taken, which may be less than the table wants
  int times_slower = 1;
  Instant since;
  Instant until = kNever;  // kNever: until it is cleared
  auto operator<=>(const Ailment&) const = default;
};

// What a heartbeat reads and writes stands first, in one cache line: a fleet has more devices than a cache has room
// for.
struct alignas(64) Device {
  static constexpr size_t kHotBytes = 2 * 64;  // the second line for its timer

  DeviceId id;
  DeviceState state = DeviceState::kLost;
  bool attached = false;      // its stream is open
  bool suspect = false;       // attached, silent for longer than suspect_after
  bool parked = false;        // attached after a drain, without context and memory
  bool parking = false;       // told to park: the process ends and another takes its place
  bool cordoned = false;      // no new group is formed here
  bool drain_wanted = false;  // an operator's wish; it outlives the worker
  bool recalled = false;      // known from an earlier run, not seen in this one yet
  bool uncounted = false;     // a rank has loaded here since the last heartbeat; see CountLoaded
  Incarnation incarnation;
  Instant last_heard;           // heartbeat, attach or report
  Bytes memory_free;            // by the last heartbeat, as is
  Bytes memory_process;         // what the worker process holds
  uint64_t idle_load = 0;       // fingerprint of its last heartbeat, when nothing was to be done there; see liveness.cc
  Instant timer = kNever;       // when liveness looks again
  std::vector<GroupId> groups;  // that it is a member of and has not left
  std::vector<Leftover> leftovers;
  int claims = 0;                   // shards it holds for groups that may yet be adopted
  Instant leave_deadline = kNever;  // of the leftovers, or of parking
  Instant detached_at = kNever;
  Instant quarantined_at = kNever;  // kNever: it is not
  Instant quarantined_until = kNever;
  int quarantines = 0;            // ever
  int times_slower = 1;           // by its ailments: as its groups are weighed
  std::vector<Ailment> ailments;  // one for each code, in the order of their coming
  Instant ailing_until = kNever;  // when the first of them ends by itself
  std::vector<Instant> failures;  // of its own, the latest; see quarantine.h
  DeviceSpec spec;                // as its worker described it last
  KnownDevice kept;               // as the store was told last; see kept.h
  std::string reason;             // of the cordon, drain, quarantine or loss

  bool Free() const { return groups.empty() && leftovers.empty() && claims == 0; }
  bool Quarantined() const { return quarantined_at != kNever; }
};

struct Node {
  std::string name;
  std::vector<DeviceId> devices;  // ascending
};

// ---- groups -------------------------------------------------------------------------------------------------------

// One rank.
struct Member {
  DeviceId device;
  bool formed = false;
  bool loaded = false;
  bool out = false;      // it left, failed, or its process is gone
  bool counted = false;  // loaded, and the device's last heartbeat is younger: its free memory is without this rank's
  uint64_t progress = 0;
  Instant progress_at;  // when `progress` changed, or the rank said that it was idle
  Instant moved_at;     // when `progress` changed, or the group had no request: its word does not count here
  Duration longest;     // between two changes under load
  Bytes estimated;      // weights and activations by the formula
  Bytes planned;        // the same with what was learned: what it was placed with
  Bytes measured;       // the same as the worker measured it; 0 until loaded
  Bytes held_before;    // by its process, when it was told to load
};

// How a group that leaves service does so.
enum class Ending : uint8_t { kNo, kDissolving, kAborting };

// The scheduler's account of a group's KV, in tokens. `booked` is what was promised at assignment; the engine's free
// blocks may show that more is gone, and that surplus is `correction`.
struct KvAccount {
  Tokens capacity;        // blocks times block size
  Tokens limit;           // capacity times overcommit
  Tokens booked;          // sum over `requests`
  Tokens booked_started;  // of which the engine has begun
  Tokens shared;          // booked more than once: beginnings that several of `requests` have
  Tokens correction;      // used by its own word beyond what is booked for those begun, at the last heartbeat
  Tokens pending;         // Request::fresh of those whose prompt is not computed yet
  Tokens Booked() const { return booked - shared; }
  Tokens Load() const { return Booked() + correction; }
};

// Most groups of a large fleet have one rank, which then lies in the group itself.
using Members = absl::InlinedVector<Member, 1>;

// As Device: what every heartbeat and every request touches stands first, in four cache lines, and of these the first
// has all that is asked of every group once a second (slowness.h); what is read by people stands last.
struct alignas(64) Group {
  GroupEpoch epoch;
  uint64_t steps = 0;  // by rank 0's last heartbeat, as those below
  uint64_t steps_compared = 0;
  int64_t step_us = 0, step_tokens = 0;
  int32_t weight = 1000;  // SlownessOf, as Reindex found it
  GroupState state = GroupState::kForming;
  Ending ending = Ending::kNo;
  bool retiring = false;   // fewer replicas are needed; see pool.h
  bool leaving = false;    // a drain wants it gone; it may serve until a replacement does
  bool outdated = false;   // its model was deployed in another shape since; likewise. See rollout.h
  bool successor = false;  // forms to take another group's place, and is no replica before; see rebalance.h
  bool adopted = false;    // formed by an earlier scheduler
  bool reachable = false;  // all its devices are attached and none is suspect, as Reindex found them
  bool indexed = false;    // it has an entry in Model::by_share, by share_key; none while it admits nothing
  ModelId model;
  int32_t kv_blocks = 0;
  int32_t free_blocks = 0;  // by rank 0's last heartbeat, as those below
  int32_t running = 0;
  int32_t waiting = 0;
  uint64_t preemptions = 0;
  Instant ready_at = kNever;
  Instant steps_at;                  // when `steps` changed, or the group had no request
  Members members;                   // in rank order; members[0] decides
  absl::btree_set<Serial> requests;  // with a booking here
  KvAccount kv;
  int64_t share_key = 0;
  int32_t block_tokens = 16;
  int32_t max_sequences = 0;
  int64_t slowness = 1000;  // permille of the time that its peers take; more than 1000 only once it counts as slow
  // ---- seldom touched
  GroupId id;
  int slow_looks = 0;  // in a row that speak against what it counts as; see slowness.h
  int32_t max_model_len = 0;
  Instant created, ended_at = kNever;
  Instant deadline = kNever;  // of forming, loading, leaving
  Bytes kv_min, kv_target;    // per rank, as asked
  Bytes kv_bytes;             // of rank 0, as taken
  Reason end_reason = Reason::kNone;
  std::string why;     // how it came to be placed here
  std::string reason;  // why it left service
  std::string numerics_id;
  std::string deployment;  // what it is loaded with; DeploymentOf(spec) when it was formed

  // What a heartbeat or a request reads of it.
  static constexpr size_t kHotBytes = 5 * 64;

  DeviceId Rank0() const { return members.front().device; }
  bool InService() const { return ending == Ending::kNo && state != GroupState::kDissolved; }
  // Takes requests now or soon: forming, loading or ready.
  bool Serves() const { return InService() && state != GroupState::kDraining; }
  // Of the replicas that are wanted: one that a drain or a new deployment wants gone serves, but is to be replaced.
  bool CountsAsReplica() const { return Serves() && !leaving && !outdated && !successor; }
};

// ---- models -------------------------------------------------------------------------------------------------------

// What loading one rank of a model taught, by degree and kind of device; see memory_ledger.h.
struct LearnedMemory {
  int tensor_parallel = 1;
  std::string kind;
  GroupId group;              // whose rank it was
  Bytes estimated, measured;  // weights and activations
};

// How many replicas demand wants; see pool.h.
struct Pool {
  int wanted = 0;                // within the model's least and most, whatever is here
  Instant quiet_since = kNever;  // one fewer would have done since
  Instant held_until;            // gave one up, and does not grow before
};

struct Model {
  ModelId id;
  ModelSpec spec;
  std::vector<GroupId> groups;  // not dissolved, in order of forming
  WaitingLine queue;
  Pace pace;         // how fast the queue is served
  Tokens in_flight;  // booked on all its groups
  // Groups that may take a request now, by booked share of KV, least loaded first. With what no group has more of than
  // that, the share says how much room there is at most from a place in the order on; see ChooseGroup.
  absl::btree_set<std::pair<int64_t, GroupId>> by_share;
  Tokens most_limit;      // of KV, of any group that ever was in `by_share`
  bool any_slow = false;  // some group there may be weighed
  PrefixIndex prefixes;   // of the groups in service
  OutputHistory outputs;
  std::vector<LearnedMemory> learned;  // at most one per degree and kind, in order of first load
  PlacementReport report;              // of the last try to place a replica
  std::string waits_for;               // why fewer replicas are ready than wanted; empty when none is missing
  // A model that cannot be served at all: its requests are refused with this until something changes.
  Reason refused = Reason::kNone;
  std::string refused_why;
  bool undeployed = false;    // has no name any more, and no replica is wanted; its slot stays
  bool blocked = false;       // `refused` came from a worker: no retry before a worker or device changed
  Duration back_off;          // of the next retry; 0 after success
  Instant retry_at = kNever;  // no group is formed before
  Pool pool;
  Instant next_compare;         // of its groups' step times
  int64_t least_step_us = 0;    // of them, at the last one; 0: none has stepped
  int64_t token_ns = 0;         // of their fastest lately, over whole steps; 0: none has stepped
  Instant release_at = kNever;  // when the next of those that wait for a full group's cache goes to any
  // Moves of its groups; see rebalance.h.
  Instant next_move;      // none is begun before
  Duration move_rest;     // that the last one cost; 0 before the first
  std::string move_note;  // what became of the last look or move
};

// ---- requests -----------------------------------------------------------------------------------------------------

enum class MomentKind {
  kArrived,
  kQueued,
  kAssigned,
  kStarted,
  kPreempted,
  kRequeued,
  kStopped,
  kAborting,
  kFinished,
  kFailed,
  kCancelled,
  kMigrating,
  kFound,
  kCached,  // it was assigned to a group for what that holds of the prompt
};
// One line of a request's history. `number` is the attempt's counter or a count of tokens, as the kind has it.
struct Moment {
  Instant at;
  MomentKind kind = MomentKind::kArrived;
  GroupId group;
  int64_t number = 0;
};
inline constexpr size_t kMostMoments = 24;  // a request preempted a hundred times keeps its first and latest ones

// As Device and Group.
struct Request {
  RequestId id;
  Serial serial = 0;
  ModelId model;
  int priority = 0;
  Tokens prompt;
  Tokens output;      // delivered or reported
  Tokens max_tokens;  // of the whole output
  // The current attempt. `group` is set and `booked` positive from assignment until the worker said that it ended,
  // which may be after the client got its last word: `told`.
  Attempt attempt;
  GroupId group;
  Tokens booked;
  Tokens fresh;  // of its prompt and known output: what the group had to compute when it was given to it
  RequestState state = RequestState::kQueued;
  bool awaits_group = false;  // computed by a group that is not adopted yet: no booking; see found_requests.h
  bool started = false;       // by rank 0's word, in this attempt
  bool computed = false;      // and its first token since then came
  bool aborting = false;      // AbortAttempt was sent
  bool stopped = false;       // the router found a stop string
  bool told = false;          // FailRequest or CompleteRequest was given out
  bool began = false;         // an engine took it up in some attempt: from here on it waits as MIGRATING
  Tokens charged;             // to its tenant, all attempts together
  Instant arrived, deadline = kNever, ended_at = kNever;
  std::string tenant;
  absl::InlinedVector<Moment, 4> history;  // of most there are no more: it came, was assigned, started and ended
  std::string waits_for;
  // ---- seldom touched
  Instant waits_since;  // while it waits: since it joined its queue
  GroupId home;         // the full group that it waits, or waited, for; see ChooseGroup. 0: none
  int overtaken = 0;    // by requests behind it: it did not fit, or they had more in a cache, or it waited for one
  int preemptions = 0;
  // What is remembered over attempts; see migration.h.
  int migrations = 0;
  int groups_lost = 0;  // that died while they ran it
  int faults = 0;       // attempts that the engine gave up, its group living on
  int refusals = 0;     // attempts that no engine began, though its group lives
  GroupId faulted_on;
  std::string numerics_id;  // of the group that began it: equal ones give the tokens that it would have given
  std::string moved_why;    // it left its last group before its end
  Tokens known_output;
  std::vector<uint64_t> prefix;  // its landmarks; pinned where it is booked
  Bytes bytes;                   // that the shell keeps of it while it waits
  Reason outcome = Reason::kNone;
  std::string outcome_text;
  std::string caller_id, trace_id;  // as RequestArrived has them

  // What its start and its end read of it.
  static constexpr size_t kHotBytes = 5 * 64;

  bool HoldsBooking() const { return booked.value > 0; }
  // In its model's queue, for its first group or for another one.
  bool Waits() const { return state == RequestState::kQueued || state == RequestState::kMigrating; }
  bool Placed() const { return HoldsBooking() || awaits_group; }  // an engine may compute it
};

// ---- drains -------------------------------------------------------------------------------------------------------

struct Drain {
  OperationId id;
  std::vector<DeviceId> devices;  // empty when a group is drained
  std::vector<GroupId> groups;    // that have not ended
  std::string reason;
  Instant deadline = kNever;
  OnDeadline on_deadline = OnDeadline::kMigrate;
  bool force = false;  // takes the last replica of a model too
  bool past_deadline = false;
  int requests_at_start = 0;  // or later, while its groups served on: the most at a time
  int requests_left = -1;     // as last reported
  std::string said;           // likewise: what it waits for, without the times in it
  Instant next_report = kNever;
};

// ---- links --------------------------------------------------------------------------------------------------------

// What is known by measurement of the link between two devices of one host.
struct LinkRecord {
  DeviceId a, b;  // a < b
  int64_t small_ns = 0;
  int64_t bytes_per_second = 0;  // 0: never measured
  Instant measured_at = kNever;
  Instant due;          // of the next probe; kNever: no more
  Duration back_off;    // after failures; 0 after success
  std::string why_not;  // the last probe gave no figure
};
// One under way; at most one per host, since two would measure each other.
struct LinkProbe {
  uint64_t id = 0;
  DeviceId a, b;
  Instant deadline;
};

// ---- moves --------------------------------------------------------------------------------------------------------

// A group on its way to better devices; see rebalance.h. At most one in the installation.
struct Move {
  GroupId from, to;
  int64_t before_us = 0, after_us = 0;  // a step's time, by the step model
  bool UnderWay() const { return to.value != 0; }
};

// ---- time ---------------------------------------------------------------------------------------------------------

enum class TimerKind : uint8_t {
  kReattach,
  kPlacement,
  kDevice,
  kGroup,
  kDrain,
  kRequest,
  kProbe,
  kPool,
  kQuarantine,
  kMove,
  kHealth,
  kRelease,
};
struct Timer {
  Instant at;
  TimerKind kind = TimerKind::kPlacement;
  uint64_t subject = 0;  // index, id or serial
  auto operator<=>(const Timer&) const = default;
};

// What somebody has in the waiting room: all, one priority, one tenant.
struct Waiting {
  int requests = 0;
  Tokens tokens;  // of prompts
  Bytes bytes;    // that the shell keeps
  auto operator<=>(const Waiting&) const = default;
  Waiting& operator+=(const Waiting& more) {
    return requests += more.requests, tokens += more.tokens, bytes += more.bytes, *this;
  }
  Waiting& operator-=(const Waiting& less) {
    return requests -= less.requests, tokens -= less.tokens, bytes -= less.bytes, *this;
  }
};

// How often devices reported a code.
struct HealthCount {
  std::string code;
  uint64_t reports = 0;
};
// Why a worker process was taken for gone.
enum class LossCause { kLeft, kStreamBroke, kFrozen, kReplaced, kDisobeyed };

// What was counted and otherwise ignored, and what became of requests.
struct Counters {
  uint64_t finished = 0, failed = 0, cancelled = 0, refused = 0;
  uint64_t stale_groups = 0;    // messages about a group or epoch that is no more
  uint64_t stale_attempts = 0;  // about a request or attempt that is no more
  uint64_t stale_workers = 0;   // from a worker process that was replaced or dropped
  uint64_t lost_left = 0, lost_stream = 0, lost_frozen = 0, lost_replaced = 0, lost_disobeyed = 0;  // by LossCause
  uint64_t aborted_client_left = 0, aborted_client_asked = 0, aborted_admin = 0;                    // by CancelCause
  uint64_t spoiled = 0;              // requests whose tokens the router could not believe
  uint64_t requeued = 0;             // requests that went back to their queue, no engine having begun them
  uint64_t migrated = 0;             // that an engine had begun, and that went on elsewhere
  uint64_t communicator_errors = 0;  // ranks that left their group because of it
  // Requests that waited for a full group that holds much of their prompt, by what came of it: they went there; their
  // time was over, and they went elsewhere; they went elsewhere or ended for another reason.
  uint64_t homes_reached = 0, homes_given_up = 0, homes_left = 0;
  uint64_t prefixes_dropped = 0;    // reports of cached beginnings that found the index full
  std::vector<HealthCount> health;  // by code, in the order of first sight; the last row is for all further ones
  uint64_t Stale() const { return stale_groups + stale_attempts + stale_workers; }
};

// A held group of an earlier scheduler, while its ranks come back one by one.
struct Adoption {
  GroupEpoch epoch;
  std::string model;
  int size = 0;
  struct Rank {
    DeviceId device;
    bool ready = false;
  };
  std::map<int, Rank> ranks;  // those that are back
  bool conflict = false;      // two ranks disagree; it can only be aborted
  int32_t kv_blocks = 0;      // rank 0 knows them, followers may not
  std::string numerics_id;
  std::string deployment;
  absl::btree_set<uint64_t> prefixes;  // landmarks that its cache holds
};

struct ClusterState {
  ClusterState() = default;
  ClusterState(ClusterState&&) = default;  // moving leaves the elements of the tables where they are
  ClusterState& operator=(ClusterState&&) = default;

  CoreOptions options;
  Instant now;
  uint64_t leader_epoch = 0;
  uint32_t last_group = 0;  // counter of GroupId and GroupEpoch
  Serial last_serial = 0;
  int expected_devices = 0;
  Instant reattach_until = kNever;  // nothing is formed before; kNever once over or not begun
  bool settled = false;             // forming is allowed

  std::deque<Device> devices;  // by DeviceId
  std::map<std::string, DeviceId> device_names;
  std::vector<Node> nodes;                     // in order of first sight
  std::deque<Model> models;                    // by ModelId
  std::map<std::string, ModelId> model_names;  // names and aliases
  std::map<GroupId, Group> groups;             // that live
  std::deque<Group> dissolved;                 // the last options.remembered_groups, oldest first
  uint64_t dissolved_forgotten = 0;            // of them, since this core began: the number of the oldest
  std::map<GroupId, Adoption> adoptions;
  std::map<GroupId, absl::btree_set<Serial>> awaiting;         // found requests whose group is not adopted yet
  absl::btree_map<Serial, std::unique_ptr<Request>> requests;  // that live or hold a booking
  std::deque<std::unique_ptr<Request>> ended;                  // the last options.remembered, oldest first
  uint64_t ended_forgotten = 0;                                // likewise
  std::map<OperationId, Drain> drains;                         // under way
  std::vector<DrainRequested> deferred;                        // asked for before the workers were back; see kept.h

  std::map<std::pair<DeviceId, DeviceId>, LinkRecord> links;
  std::map<uint64_t, LinkProbe> probes;  // under way

  // In all queues, and the same by priority and by tenant: only those with something waiting.
  Waiting waiting;
  std::map<int, Waiting> classes;
  std::map<std::string, Waiting> tenants;
  int running_requests = 0;  // assigned or running, not told yet
  Counters counters;
  absl::btree_set<Timer> timers;
  Instant placement_at = kNever;  // the kPlacement timer
  uint64_t last_probe = 0;
  Instant probe_at = kNever;  // the kProbe timer
  Instant pool_at = kNever;   // the kPool timer
  Move move;
  Instant move_at = kNever;        // the kMove timer: of the next look, or of the end of what a moved group still runs
  uint32_t models_to_look_at = 0;  // of this round, the last ones first
  bool room_missing = false;       // some replica waits for room
  bool load_awaited = false;       // some replica waits for a device that it will share to have loaded
  bool memory_awaited = false;     // some replica waits for memory that others use: heartbeats are news

  // Scratch of one step.
  absl::btree_set<ModelId> helped;  // their queues are tried at its end
  std::vector<Serial> queued_now;   // joined a queue in this step
  bool place_wanted = false;        // a replica may be missing, or a device was freed
  bool pools_touched = false;       // a model may have come to want another number of replicas
  bool model_to_wake = false;       // one that sleeps is asked for; see WantsWaking
  bool drains_touched = false;      // a group that drains lost a request, or ended
  absl::btree_set<DeviceId> keep;   // the store may have to be told of them
  std::vector<DeviceId> emptied;    // drained devices that lost their last group, or attached

  // ---- look-ups; null or CHECK where absent ----
  Device& At(DeviceId id);
  const Device& At(DeviceId id) const;
  Model& At(ModelId id);
  const Model& At(ModelId id) const;
  Device* Find(DeviceId id);
  Group* Find(GroupId id) { return group_index_.Find(id); }
  const Group* Find(GroupId id) const;  // also the dissolved ones that are remembered
  const Group* FindLive(GroupId id) const { return group_index_.Find(id); }
  Request* Find(RequestId id);
  const Request* Find(RequestId id) const;  // also the ended ones that are remembered
  Request& At(Serial serial);
  // By name or alias. What the alias "*" answers to is the shell's to say: it has made tokens for one model.
  Model* FindModel(absl::string_view name);
  const Model* FindModel(absl::string_view name) const;

  // Enters a model's name and aliases; a name beats an alias, and the first claim beats later ones.
  void NameModel(const Model& model);
  void UnnameModel(const Model& model);
  // Enters a device that is the last of `devices` into the tables of names.
  void NameDevice(const Device& device);
  Request& AddRequest(RequestId id);
  // Moves it to `ended`. REQUIRES: told, no booking.
  void Remember(Request& request);
  // Enters it as the latest of `ended`, of which the oldest is forgotten where they become too many.
  void KeepEnded(std::unique_ptr<Request> request);
  Group& AddGroup(Group group);
  // Moves it to `dissolved`. REQUIRES: no request, no member inside.
  void Remember(Group& group);

  void SetTimer(Instant& slot, Instant at, TimerKind kind, uint64_t subject);

  int ReadyReplicas(const Model& model) const;
  int Replicas(const Model& model) const;   // that serve or will
  int Wanted(const Model& model) const;     // replicas, by demand
  bool IsServed(const Model& model) const;  // some group takes requests now or soon
  // Nobody asks for it, and it may be without a replica: the first request wakes it.
  bool Sleeps(const Model& model) const;
  // Who asks for it need not fear to be refused: a replica is ready, or the model sleeps.
  bool IsReady(const Model& model) const { return ReadyReplicas(model) > 0 || Sleeps(model); }
  // Place in the queue, from 1; 0 when it does not wait. As things stand: who comes later may be served before.
  int QueuePosition(const Request& request) const;

 private:
  std::map<std::string, size_t> node_index_;
  absl::flat_hash_map<RequestId, Request*> request_index_;
  absl::flat_hash_map<RequestId, const Request*> ended_index_;  // every arrival asks whether its id was there before
  GroupIndex group_index_;
};

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_CLUSTER_STATE_H_
