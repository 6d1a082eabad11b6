// The words of the core: ids, quantities, times. Each is its own type, so that a group is never passed for a device,
// nor a token count for bytes. All are plain values, ordered, and printable by format.h.
#ifndef TANDEM_SCHEDULER_CORE_TYPES_H_
#define TANDEM_SCHEDULER_CORE_TYPES_H_

#include <compare>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "placement/topology/topology.h"

namespace tandem::core {

// Dense index of a device in order of first sight; never reused while the scheduler runs.
struct DeviceId {
  uint32_t value = 0;
  auto operator<=>(const DeviceId&) const = default;
};
// Dense index of a configured model.
struct ModelId {
  uint32_t value = 0;
  auto operator<=>(const ModelId&) const = default;
};
// Never used twice in one installation: the leader epoch is its upper half.
struct GroupId {
  uint64_t value = 0;
  auto operator<=>(const GroupId&) const = default;
};
// 128 random bits, drawn by the shell.
struct RequestId {
  uint64_t hi = 0, lo = 0;
  auto operator<=>(const RequestId&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, RequestId id) {
    return H::combine(std::move(h), id.hi, id.lo);
  }
};
// 128 random bits of one worker process. A new one means that the process before it is gone, with all it held.
struct Incarnation {
  uint64_t hi = 0, lo = 0;
  auto operator<=>(const Incarnation&) const = default;
};
// What an operator asked for. Never used twice in one installation: the leader epoch is its upper half.
struct OperationId {
  uint64_t value = 0;
  auto operator<=>(const OperationId&) const = default;
};

// Serial number of a request in order of arrival: the key of the ordered tables.
using Serial = uint64_t;

// (leader epoch, counter), compared in that order: what a newer scheduler says always wins.
struct GroupEpoch {
  uint64_t leader = 0;
  uint32_t counter = 0;
  auto operator<=>(const GroupEpoch&) const = default;
};
struct Attempt {
  uint64_t leader = 0;
  uint32_t counter = 0;
  auto operator<=>(const Attempt&) const = default;
};

struct Bytes {
  int64_t value = 0;
  auto operator<=>(const Bytes&) const = default;
  Bytes& operator+=(Bytes other) { return value += other.value, *this; }
  Bytes& operator-=(Bytes other) { return value -= other.value, *this; }
  friend Bytes operator+(Bytes a, Bytes b) { return {a.value + b.value}; }
  friend Bytes operator-(Bytes a, Bytes b) { return {a.value - b.value}; }
};
struct Tokens {
  int64_t value = 0;
  auto operator<=>(const Tokens&) const = default;
  Tokens& operator+=(Tokens other) { return value += other.value, *this; }
  Tokens& operator-=(Tokens other) { return value -= other.value, *this; }
  friend Tokens operator+(Tokens a, Tokens b) { return {a.value + b.value}; }
  friend Tokens operator-(Tokens a, Tokens b) { return {a.value - b.value}; }
};

// Microseconds. An Instant counts on the shell's clock, which never falls and whose zero means nothing.
struct Duration {
  int64_t us = 0;
  auto operator<=>(const Duration&) const = default;
};
struct Instant {
  int64_t us = 0;
  auto operator<=>(const Instant&) const = default;
  friend Instant operator+(Instant t, Duration d) { return {t.us + d.us}; }
  friend Duration operator-(Instant a, Instant b) { return {a.us - b.us}; }
};
inline constexpr Instant kNever{INT64_MAX};
inline constexpr Duration Milliseconds(int64_t ms) { return {ms * 1000}; }
inline constexpr Duration Seconds(int64_t s) { return {s * 1000000}; }

// Reasons of SURFACE.md that the core itself gives. The shell knows their gRPC codes.
enum class Reason {
  kNone,
  kInvalidParameter,
  kContextLengthExceeded,
  kModelNotFound,
  kTenantLimit,
  kQueueFull,
  kDraining,
  kNoCapacity,
  kModelLoading,
  kDrainAborted,
  kWorkerLost,
  kDeadlineUnreachable,
  kDeadlineExceeded,
  kEngineFault,
  kWouldLoseLastReplica,
  kNeverFits,
  kModelMismatch,
  kCancelled,
  kNotFound,
  kModelUnusable,  // FAILED_PRECONDITION: its files are missing, malformed or not supported
};

enum class DeviceState : uint8_t { kStarting, kActive, kDraining, kDrained, kFailed, kLost };
enum class GroupState : uint8_t { kForming, kLoading, kReady, kDraining, kDissolved };
enum class RequestState : uint8_t { kQueued, kAssigned, kRunning, kMigrating, kFinished, kFailed, kCancelled };

// What one rank of a model takes at one TP degree, by the formula; made by the shell from the model's files.
struct KindCost {
  std::string kind;  // of device
  Bytes static_bytes, static_others, kv_bytes_per_token;
};
struct ShardCost {
  int tensor_parallel = 1;
  std::string impossible;       // why this degree cannot be, in one sentence; empty = possible
  Bytes static_bytes;           // weights, packed copies, activations of rank 0, which needs most
  Bytes kv_bytes_per_token;     // of this rank, all layers
  Bytes static_others;          // static_bytes of every other rank; 0 = as rank 0
  std::vector<KindCost> kinds;  // where a kind of device takes other amounts than these
  // These amounts, or the kind's own.
  KindCost On(const std::string& kind) const {
    for (const KindCost& one : kinds) {
      if (one.kind == kind) return one;
    }
    return {kind, static_bytes, static_others, kv_bytes_per_token};
  }
};

// A model as configured, with what its files say. Plain data, checked by the shell.
struct ModelSpec {
  std::string name;
  std::vector<std::string> aliases;
  std::string path;
  std::string revision;
  std::string task = "generate";
  std::string dtype = "auto";
  int tensor_parallel = 0;  // 0 = auto
  int replicas_min = 1;
  int replicas_max = 1;
  int32_t max_model_len = 0;
  int32_t max_sequences = 0;
  int32_t max_batch_tokens = 0;
  int priority = 0;
  double memory_utilization = 1.0;  // cap of this model's share of a device
  Bytes kv_most;                    // cap of each rank's KV pool; 0 = what fits
  std::vector<ShardCost> costs;     // one per degree, ascending
  // For the step model behind `auto`; 0 where they are not known, and then the smallest degree that fits is taken.
  int32_t hidden = 0;
  int32_t layers = 0;
  int64_t parameters = 0;
  bool for_latency = false;  // `auto` makes the most of a request's latency, not of all requests' throughput
};

// A way to another device of the node, as a device's worker reads it off the machine.
struct LinkLabel {
  std::string peer_uuid;
  placement::PathKind kind = placement::PathKind::kSys;
  int nvlinks = 0;  // as placement::Link
};

// A device as its worker describes it.
struct DeviceSpec {
  std::string node;
  uint32_t index = 0;
  std::string kind;  // cpu, cuda, sim
  std::string model;
  std::string uuid;
  std::string pci_bus_id;
  int numa_node = -1;
  uint32_t threads = 1;
  std::string build;
  std::string numerics;
  Bytes memory_total;
  Bytes memory_free;
  Bytes memory_process;  // of the total, held by the worker process
  Bytes memory_budget;   // utilization times total, rounded down
  std::vector<LinkLabel> links;
  std::string Name() const { return "nodes/" + node + "/devices/" + std::to_string(index); }
};

// What is known of a device after a restart, before its worker is back: who it is, and what operators and the core want
// of it. Wishes go by the device's name, so that they hold for a card that was replaced too.
struct KnownDevice {
  std::string node;
  uint32_t index = 0;
  std::string kind, model, uuid;
  Bytes memory_budget;
  bool cordoned = false;
  bool drained = false;   // or on its way there
  int quarantined = 0;    // the number of the quarantine that it is in; 0: it is in none
  std::string reason;     // of the wishes; empty without one
  Duration wished_since;  // how long ago, when it is recalled
  bool operator==(const KnownDevice&) const = default;
  bool HasWish() const { return cordoned || drained || quarantined > 0; }
  std::string Name() const { return "nodes/" + node + "/devices/" + std::to_string(index); }
};

// Whether the links of a host are measured; see link_probe.h.
enum class LinkProbing { kOff, kOnce, kPeriodic };

// What a condition of a device has for consequences; see health.h. In order of weight.
enum class HealthAction { kNone, kLog, kSlow, kDistrustLinks, kCordon, kQuarantine, kDrain, kFence };
// One row of the table that says so. The first row that fits a report's code decides.
struct HealthRule {
  std::string code;  // "XID 79"; "XID *" fits every code that begins with "XID "
  HealthAction action = HealthAction::kLog;
  Duration cool_off;     // that a report counts for, where nobody clears it; 0: quarantine_first
  int times_slower = 2;  // of kSlow: as such a device's groups are weighed
  std::string because;   // what the code means, in a few words
};

// How to run: every limit and every time has its reason beside it. The shell scales the times by one knob.
struct CoreOptions {
  Duration suspect_after = Milliseconds(2500);  // five heartbeats
  Duration fence_after = Milliseconds(5000);    // ten heartbeats: the worker is taken for frozen
  Duration detach_grace = Milliseconds(1000);   // a stream that broke: the process may dial again, or is dead by then
  Duration stuck_after = Seconds(10);           // a rank that is busy and makes no progress; DESIGN 21
  Duration reattach_window = Seconds(5);  // after a start nothing is formed until all known devices came back, or this
  Duration form_deadline = Seconds(20);   // bootstrap of one group
  Duration load_deadline = Seconds(600);  // reading 100 GB from a disk of 200 MB/s
  Duration leave_deadline = Seconds(5);   // a rank that does not say that it left is taken for lost
  Duration retry_first = Milliseconds(500);  // a group that failed is formed again after this, doubling
  Duration retry_most = Seconds(30);
  Duration drain_deadline = Seconds(600);
  int waiting_room_requests = 1024;        // per installation
  Tokens waiting_room_tokens = {4 << 20};  // prompt tokens waiting, all models: bounds the shell's payloads
  Bytes waiting_room_bytes = {64 << 20};   // that the shell keeps of them: ids, stop strings, hashes
  int class_room_percent = 100;            // of the waiting room, that requests of one priority may take
  int tenant_room_percent = 50;            // of what they may take, that one tenant keeps while others wait
  Duration retry_hint = Seconds(1);        // RetryInfo of a refusal that will pass, where no rate is known
  Duration retry_hint_least = Milliseconds(100);
  Duration retry_hint_most = Seconds(30);
  int look_ahead = 32;           // waiting requests that are tried when the first does not fit
  int most_overtaken = 128;      // a request that does not fit lets that many smaller ones pass
  int most_attempts = 3;         // a request that engines refuse to start is not sent round forever
  int most_migrations = 8;       // a request that began and lost its group goes on elsewhere this often
  int most_groups_lost = 3;      // that died while they ran it: it may be what kills them
  int prefix_entries = 1 << 18;  // of a model's index of cached beginnings: 16 MiB, for some 10,000 sequences; 0: none
  // Tokens of booked KV that weigh as much as one of the prompt that is to be computed, which lets go of what others
  // have in the cache besides; and as one of a prompt that is to be computed before it. 8 to 12 and 3 to 6 serve traces
  // best.
  int cached_worth = 10;
  int pending_worth = 3;
  // For a full group that holds a prompt a request waits this many times as long as computing that would take, and at
  // most so long, as the time of a token is measured over steps that generate too.
  int cache_wait_factor = 4;
  Duration cache_wait_most = Seconds(30);
  int engine_queue = 2;           // bind late: at most this many beyond what an engine runs
  double overcommit = 1.0;        // booked KV over real KV
  Tokens default_output = {256};  // expected output before the model has any history
  bool sharing = true;            // groups of one rank may live beside others on a device where there is no other room
  int quarantine_after = 3;       // failures of one device within the window; 0: never
  Duration quarantine_window = Seconds(600);
  Duration quarantine_first = Seconds(600);   // cool-off of the first; doubles with each
  Duration quarantine_most = Seconds(86400);  // a day: then somebody has looked
  int quarantine_percent = 50;     // of all devices at most, rounded down; beyond it is an operator's decision
  std::vector<HealthRule> health;  // no row: told
  int remembered = 2048;           // ended requests kept for explain, of about 1 KiB each
  int remembered_groups = 256;     // dissolved ones, as well
  LinkProbing link_probe = LinkProbing::kOnce;
  Duration probe_pause = Seconds(1);          // from a worker's coming, or from finding its host busy, to the next look
  Duration probe_deadline = Seconds(3);       // a probe takes less than one, and meeting as much again at most
  Duration gpu_probe_deadline = Seconds(30);  // of two GPUs: each makes its context, and their communicator comes up
  Duration probe_again = Seconds(600);        // periodic: links change with cables and drivers, not with the minute
  Duration pool_period = Seconds(1);          // between two looks at demand
  Duration pool_up_after = Seconds(2);        // a wait that one replica more should end; shorter ones end by themselves
  Duration pool_down_after = Seconds(60);     // of quiet: to load a model again takes about as long
  Duration pool_hold = Seconds(60);           // that a replica has served before another model gets its devices
  int move_gain_permille = 150;       // of a step's time: what a group that runs must gain by a move; 0: none moves
  Duration move_calm = Seconds(60);   // since the last change, before a group is looked at for a move
  Duration move_rest = Seconds(600);  // of a model that moved, before it moves again; doubles
  Duration move_rest_most = Seconds(86400);
};

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_TYPES_H_
