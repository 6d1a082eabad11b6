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
};
inline constexpr int kKinds = 17;

// Flags of a request.
inline constexpr int64_t kWithKey = 1;     // an idempotency key: outlives its stream
inline constexpr int64_t kSlowReader = 2;  // takes a message in 200 ms
inline constexpr int64_t kGathers = 4;     // chunk_interval_ms
inline constexpr int64_t kUrgent = 8;      // a higher priority
inline constexpr int64_t kSharedPrefix = 16;

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
