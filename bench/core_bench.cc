// What one step of the core costs: assignment under load, with few and with many groups; heartbeats; placing a whole
// cluster from nothing; a journal line.
//
//   build/bench/core_bench            prints the machine, the command and the figures
//
// Load: one model with 64 groups (or 10, or 10,000), 10,000 requests in flight, then rounds of end + arrival, so that
// every arrival finds a group. Each prompt goes on with one of 10,000 conversations that lie in the caches, each in one
// group's, so that every arrival looks up as many landmarks as its prompt has. Times are of Core::Step alone, measured
// one by one with the steady clock.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <variant>
#include <vector>

#include "base/prefix_landmarks.h"
#include "bench/machine.h"
#include "scheduler/core/core.h"
#include "scheduler/core/format.h"

namespace tandem::core {
namespace {

using Clock = std::chrono::steady_clock;

int64_t Nanoseconds(Clock::time_point from) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - from).count();
}

struct Samples {
  std::vector<int64_t> ns;
  double At(double share) {
    std::sort(ns.begin(), ns.end());
    return static_cast<double>(ns[static_cast<size_t>(share * static_cast<double>(ns.size() - 1))]) / 1000;
  }
  double Mean() const {
    int64_t sum = 0;
    for (int64_t n : ns) sum += n;
    return static_cast<double>(sum) / static_cast<double>(ns.size()) / 1000;
  }
};

class Load {
 public:
  Load(int groups, int in_flight) : core_(Options(in_flight)) {
    core_.Step(now_, LeaderStarted{1, groups});
    ModelSpec spec;
    spec.name = "chat";
    spec.tensor_parallel = 1;
    spec.replicas_min = groups;
    spec.max_model_len = 4096;
    spec.max_sequences = std::max(8, 2 * in_flight / groups);
    spec.costs = {{1, "", {int64_t{1} << 30}, {1 << 16}}};
    core_.Step(now_, ModelConfigured{spec});
    Actions actions;
    for (int i = 0; i < groups; ++i) {
      WorkerAttached event;
      event.device.node = "n" + std::to_string(i / 8);
      event.device.index = static_cast<uint32_t>(i % 8);
      event.device.memory_total = event.device.memory_budget = event.device.memory_free = {int64_t{80} << 30};
      event.incarnation = {1, static_cast<uint64_t>(i)};
      const auto from = Clock::now();
      actions = core_.Step(now_, event);
      place_ms_ = static_cast<double>(Nanoseconds(from)) / 1e6;  // of the last: it places all groups
    }
    const int blocks = std::max(1 << 16, in_flight / groups * 512);
    for (const Action& action : actions) {
      const auto* form = std::get_if<FormGroup>(&action);
      if (form == nullptr) continue;
      core_.Step(now_, GroupFormed{form->members[0], form->group, form->epoch});
      core_.Step(now_,
                 GroupReady{form->members[0], form->group, form->epoch, blocks, 16, spec.max_sequences, 4096, {1}, ""});
      ++ready_;
    }
    for (int talk = 0; talk < kTalks; ++talk) {
      const Group& group = std::next(core_.state().groups.begin(), talk % groups)->second;
      core_.Step(now_, CacheChanged{group.Rank0(), group.id, group.epoch, false, Landmarks(talk, kMostTokens), {}});
    }
    for (int i = 0; i < in_flight; ++i) Arrive(nullptr);
  }

  void Round(Samples* arrive, Samples* end, Samples* beat) {
    const size_t which = static_cast<size_t>(Draw() % running_.size());
    const AssignRequest old = running_[which];
    running_[which] = running_.back();
    running_.pop_back();
    auto from = Clock::now();
    core_.Step(now_,
               RequestEnded{old.request, old.attempt, EndedHow::kStopped, {static_cast<int64_t>(Draw() % 500)}, ""});
    end->ns.push_back(Nanoseconds(from));
    Arrive(arrive);
    const Device& device = core_.state().devices[Draw() % core_.state().devices.size()];
    HeartbeatReceived event{device.id, device.incarnation, device.memory_free, device.memory_process, {}};
    const Group& group = *core_.state().Find(device.groups[0]);
    event.loads.push_back({group.id, group.epoch, Draw(), false, true, group.kv_blocks, 0, 0, 0, 0});
    from = Clock::now();
    core_.Step(now_, event);
    beat->ns.push_back(Nanoseconds(from));
    now_ = now_ + Duration{20};
  }

  double place_ms() const { return place_ms_; }
  int ready() const { return ready_; }
  size_t running() const { return running_.size(); }

 private:
  static constexpr int kTalks = 10000;
  static constexpr int64_t kMostTokens = 2000;
  static std::vector<uint64_t> Landmarks(int talk, int64_t tokens) {
    std::vector<uint64_t> landmarks;
    for (uint64_t i = 0; i < kLandmarkBlocks.size() && kLandmarkBlocks[i] * 16 <= tokens; ++i) {
      landmarks.push_back((static_cast<uint64_t>(talk) * 32 + i + 1) * 0x9e3779b97f4a7c15u);
    }
    return landmarks;
  }
  static CoreOptions Options(int in_flight) {
    CoreOptions options;
    options.waiting_room_requests = in_flight;
    options.fence_after = options.suspect_after = Seconds(100000);
    return options;
  }
  uint64_t Draw() {
    random_ ^= random_ << 13, random_ ^= random_ >> 7, random_ ^= random_ << 17;
    return random_;
  }
  void Arrive(Samples* samples) {
    RequestArrived event;
    event.request = {Draw(), Draw()};
    event.model = "chat";
    event.prompt = {static_cast<int64_t>(1 + Draw() % kMostTokens)};
    event.prefix = Landmarks(static_cast<int>(Draw() % kTalks), event.prompt.value);
    event.max_tokens = Tokens{static_cast<int64_t>(1 + Draw() % 1000)};
    event.deadline = Seconds(600);
    const Event wrapped(event);
    const auto from = Clock::now();
    const Actions actions = core_.Step(now_, wrapped);
    const int64_t ns = Nanoseconds(from);
    for (const Action& action : actions) {
      const auto* assign = std::get_if<AssignRequest>(&action);
      if (assign == nullptr) continue;
      running_.push_back(*assign);
      if (samples != nullptr) samples->ns.push_back(ns);
    }
  }

  Core core_;
  Instant now_{1};
  uint64_t random_ = 88172645463325252u;
  std::vector<AssignRequest> running_;
  double place_ms_ = 0;
  int ready_ = 0;
};

double Measure(int groups, int in_flight) {
  Load load(groups, in_flight);
  Samples arrive, end, beat;
  for (int i = 0; i < 5000; ++i) load.Round(&arrive, &end, &beat);  // warm
  arrive.ns.clear(), end.ns.clear(), beat.ns.clear();
  for (int i = 0; i < 100000; ++i) load.Round(&arrive, &end, &beat);
  std::printf(
      "%6d groups, %zu in flight: arrive+assign p50 %.2f p99 %.2f us, end p50 %.2f p99 %.2f us, heartbeat p50 %.2f p99 "
      "%.2f us\n",
      load.ready(), load.running(), arrive.At(0.5), arrive.At(0.99), end.At(0.5), end.At(0.99), beat.At(0.5),
      beat.At(0.99));
  return arrive.Mean() + end.Mean();
}

// 40 models from nothing on `devices` devices: the step in which the last device attaches.
void MeasurePlacement(int devices) {
  Core core{CoreOptions{}};
  core.Step({1}, LeaderStarted{1, devices});
  for (int i = 0; i < 40; ++i) {
    ModelSpec spec;
    spec.name = "m" + std::to_string(i);
    spec.tensor_parallel = 1 << (i % 4);
    spec.replicas_min = std::max(1, devices / 40 / spec.tensor_parallel);
    spec.max_model_len = 4096;
    spec.max_sequences = 64;
    for (int tp : {1, 2, 4, 8}) spec.costs.push_back({tp, "", {(int64_t{32} << 30) / tp}, {(1 << 18) / tp}});
    core.Step({1}, ModelConfigured{spec});
  }
  double ms = 0;
  size_t formed = 0;
  for (int i = 0; i < devices; ++i) {
    WorkerAttached event;
    event.device.node = "n" + std::to_string(i / 8);
    event.device.index = static_cast<uint32_t>(i % 8);
    event.device.memory_total = event.device.memory_budget = event.device.memory_free = {int64_t{80} << 30};
    event.incarnation = {1, static_cast<uint64_t>(i)};
    const auto from = Clock::now();
    core.Step({2}, event);
    ms = static_cast<double>(Nanoseconds(from)) / 1e6;
    formed = core.state().groups.size();
  }
  std::printf("placing 40 models on %d devices from nothing: %.1f ms, %zu groups\n", devices, ms, formed);
}

void MeasureFormat() {
  RequestArrived event;
  event.request = {1, 2};
  event.model = "chat";
  event.prompt = {1000};
  for (uint64_t i = 0; i < kLandmarkBlocks.size(); ++i) event.prefix.push_back((i + 1) * 0x9e3779b97f4a7c15u);
  const Event wrapped(event);
  size_t bytes = 0;
  const auto from = Clock::now();
  for (int i = 0; i < 20000; ++i) bytes += Format(wrapped).size();
  std::printf("journal line of an arrival with 22 landmarks: %.2f us, %zu bytes\n",
              static_cast<double>(Nanoseconds(from)) / 20000 / 1000, bytes / 20000);
}

}  // namespace
}  // namespace tandem::core

int main(int argc, char** argv) {
  using namespace tandem::core;
  tandem::bench::PrintMachine(argc, argv);
  Measure(64, 10000);
  const double few = Measure(10, 10000), many = Measure(10000, 10000);
  std::printf("arrival + end at 10,000 groups over 10 groups: %.2f times (target <= 3)\n", many / few);
  MeasurePlacement(16);
  MeasurePlacement(10000);
  MeasureFormat();
  return 0;
}
