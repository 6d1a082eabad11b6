// What a run consists of: the cluster that its seed draws, and an explicit list of what happens to it.
//
// The list is data, so that a failing run can be cut down to the few happenings that it needs, written to a file, and
// run again. Swarm: each seed draws its own mix, so that no fault hides behind another in all of them.
#ifndef TANDEM_TESTS_SIM_SCRIPT_H_
#define TANDEM_TESTS_SIM_SCRIPT_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "scheduler/core/types.h"
#include "tests/sim/sim_worker.h"

namespace tandem::sim {

struct Setup {
  std::vector<SimWorker::Place> places;
  std::vector<core::ModelSpec> models;
  core::CoreOptions options;
  int64_t heartbeat_ms = 500;
  int64_t orphan_grace_ms = 60000;
  int64_t delay_us = 300;  // of a message, typically
  int expected_devices = 0;
  int64_t core_lag_us = 100;  // how long events may wait for the core's thread
  int64_t disk_us = 0;        // how long a write takes at most; a crash loses what was not written
  bool prefix_cache = true;
  int64_t storm_ms = 20000;  // how long anything may happen
};
Setup DrawSetup(uint64_t seed);

enum class What {
  kRequest,         // model, prompt tokens, max_tokens, deadline ms or 0, flags, name
  kCrash,           // place, down ms
  kStop,            // place, down ms
  kFreeze,          // place, ms
  kSlow,            // place, factor, ms
  kCutStream,       // place
  kCutTokens,       // place
  kPartition,       // place, 1 up + 2 down, ms
  kStepFault,       // place
  kSchedulerCrash,  // down ms
  kSchedulerPause,  // ms
  kCordon,          // place
  kUncordon,        // place
  kDrain,           // place, deadline ms, on deadline, force
  kUndrain,         // place
  kClientBreak,     // name of the request
  kClientCancel,    // name of the request
  kClientStall,     // name of the request, ms: it takes no message
  kStick,           // place, ms: no step ends, and the worker says so
  kLie,             // place, ms, 0 idle 1 busy: no step ends, and the worker claims otherwise
  kDeploy,          // model, max_sequences, replicas, KV tokens or 0: in that shape
  kUndeploy,        // model
  kScale,           // model, least, most
};
inline constexpr int kKinds = 23;

// Flags of a request.
inline constexpr int64_t kWithKey = 1;     // an idempotency key: outlives its stream
inline constexpr int64_t kSlowReader = 2;  // takes a message in 200 ms
inline constexpr int64_t kGathers = 4;     // chunk_interval_ms
inline constexpr int64_t kUrgent = 8;      // a higher priority
inline constexpr int64_t kSharedPrefix = 16;
inline constexpr int64_t kSampled = 32;    // a temperature
inline constexpr int64_t kUnseeded = 64;   // the scheduler draws the seed
inline constexpr int64_t kLogprobs = 128;  // and two alternatives
inline constexpr int64_t kStops = 256;     // stop strings
inline constexpr int64_t kById = 512;      // comes back by Resume as long as that is known

struct Happening {
  int64_t at_ms = 0;
  What what = What::kRequest;
  std::array<int64_t, 6> with{};
};
absl::string_view Word(What what);
std::string ToText(const Happening& happening);

struct Script {
  uint64_t seed = 0;
  std::vector<Happening> happenings;  // by time
};
Script DrawScript(uint64_t seed);

// A script as a file: "seed N", then one happening a line.
std::string ToText(const Script& script);
absl::StatusOr<Script> ScriptFrom(absl::string_view text);

}  // namespace tandem::sim

#endif  // TANDEM_TESTS_SIM_SCRIPT_H_
