#include "tests/sim/scale.h"

#include <time.h>

#include <algorithm>
#include <cstdint>
#include <queue>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "scheduler/core/core.h"
#include "scheduler/core/invariants.h"
#include "tests/sim/random.h"

namespace tandem::sim {
namespace {

using core::Attempt;
using core::DeviceId;
using core::GroupEpoch;
using core::GroupId;
using core::Instant;
using core::RequestId;

constexpr int kDevicesPerNode = 8;
constexpr int kPlacesOfGroup = 32;
constexpr int64_t kGiB = int64_t{1} << 30;
constexpr int64_t kSecondUs = 1000000;
constexpr int64_t kLoadTimeUs = 20 * kSecondUs;  // All models are loaded by then.

int64_t Nanos(clockid_t clock) {
  timespec ts;
  clock_gettime(clock, &ts);
  return int64_t{ts.tv_sec} * 1000000000 + ts.tv_nsec;
}
// Of the processor, so that what else runs on the machine does not count.
int64_t CpuNanos() { return Nanos(CLOCK_THREAD_CPUTIME_ID); }
// For single events: it does not enter the kernel, which would push the core out of the caches.
int64_t EventNanos() { return Nanos(CLOCK_MONOTONIC); }

constexpr int64_t kSampled = 16;  // One event in so many is timed: to ask for the time costs a tenth of a heartbeat.
// No event that load and time bring takes so long: the machine did something else meanwhile.
constexpr int64_t kInterruptedNs = 1000000;

// What one kind of event cost.
struct Cost {
  int64_t count = 0, timed = 0, ns = 0;

  void Add(int64_t took_ns) {
    if (took_ns < kInterruptedNs) ns += took_ns, ++timed;
  }
  double mean_us() const {
    return timed == 0 ? 0 : static_cast<double>(ns - timed * ClockNanos()) / 1000.0 / static_cast<double>(timed);
  }
  double total_us() const { return mean_us() * static_cast<double>(count); }
  Cost Since(const Cost& before) const { return {count - before.count, timed - before.timed, ns - before.ns}; }

  // What it takes to look at the clock.
  static int64_t ClockNanos() {
    static const int64_t nanos = [] {
      constexpr int kLooks = 1000;
      int64_t least = INT64_MAX;
      for (int round = 0; round < 20; ++round) {
        const int64_t begin = EventNanos();
        for (int i = 0; i < kLooks; ++i) EventNanos();
        least = std::min(least, (EventNanos() - begin) / kLooks);
      }
      return least;
    }();
    return nanos;
  }
};

// Of all events that load and time bring; those of placement, once at the start, are not among them.
struct Costs {
  Cost beats, ticks, arrivals, starts, ends;

  double mean_us() const {
    double us = 0;
    int64_t count = 0;
    for (const Cost* cost : {&beats, &ticks, &arrivals, &starts, &ends}) us += cost->total_us(), count += cost->count;
    return us / static_cast<double>(std::max<int64_t>(count, 1));
  }
  Costs Since(const Costs& before) const {
    return {beats.Since(before.beats), ticks.Since(before.ticks), arrivals.Since(before.arrivals),
            starts.Since(before.starts), ends.Since(before.ends)};
  }
};

class Fleet {
 public:
  explicit Fleet(const Scale& scale) : scale_(scale), random_(7), core_(Options()) {}

  // Until all are placed, and their models loaded.
  void Begin() {
    const int64_t begin = CpuNanos();
    Step(core::LeaderStarted{1, scale_.devices}, &placing_);
    for (int i = 0; i < scale_.models; ++i) {
      core::ModelSpec spec;
      spec.name = absl::StrCat("m", i);
      spec.tensor_parallel = 1;
      spec.replicas_min = spec.replicas_max = std::max(1, scale_.devices / scale_.models);
      spec.max_model_len = 2048;
      spec.max_sequences = kPlacesOfGroup;
      spec.costs.push_back({1, "", {16 * kGiB}, {128 << 10}});
      models_.push_back(spec);
      Step(core::ModelConfigured{spec}, &placing_);
    }
    for (int i = 0; i < scale_.devices; ++i) Attach(i);
    placed_ns_ = CpuNanos() - begin;
    next_beat_ = now_.us + 1;
    Pass(kLoadTimeUs);
    cpu_ns_ = CpuNanos() - begin;
    next_request_ = now_.us;
    settled_ = costs_;
  }

  // Lets time pass under load.
  void Run(int64_t us) {
    const int64_t begin = CpuNanos();
    Pass(us);
    cpu_ns_ += CpuNanos() - begin;
    load_us_ += us;
  }

  // What is under way comes to its end. False: something broke, or was lost.
  bool End() {
    next_request_ = INT64_MAX;
    for (int second = 0; second < 120 && !core_.state().requests.empty(); ++second) Pass(kSecondUs);
    return Judge();
  }

  void Print() const {
    const Costs costs = costs_.Since(settled_);
    absl::PrintF(
        "%d devices, %d models, %d requests/s, %d simulated s: %.1f s of one core (%.1f s until all were placed)\n",
        scale_.devices, scale_.models, scale_.requests_per_second, (load_us_ + kLoadTimeUs) / kSecondUs,
        static_cast<double>(cpu_ns_) / 1e9, static_cast<double>(placed_ns_) / 1e9);
    const auto line = [](const char* name, const Cost& cost) {
      absl::PrintF("  %-12s %10d events  %8.2f us each\n", name, cost.count, cost.mean_us());
    };
    line("heartbeat", costs.beats);
    line("timer", costs.ticks);
    line("arrival", costs.arrivals);
    line("start", costs.starts);
    line("end", costs.ends);
    absl::PrintF("  look for moves %8d         %10.2f ms each, %.2f the longest\n", looks_,
                 static_cast<double>(look_ns_) / 1e6 / static_cast<double>(std::max<int64_t>(looks_, 1)),
                 static_cast<double>(longest_look_ns_) / 1e6);
    absl::PrintF("  requests: %d finished, %d refused or failed\n", finished_, failed_);
  }

  // Since the fleet was placed and loaded.
  const Costs& costs() const { return costs_; }

 private:
  enum class Kind { kStart, kEnd, kFormed, kLoaded };
  struct Due {
    int64_t at;
    Kind kind;
    uint32_t device;  // or the work's place
    RequestId request;
    Attempt attempt;
    bool operator<(const Due& other) const { return at > other.at; }
  };
  struct Device {
    GroupId group;
    GroupEpoch epoch;
    uint32_t steps = 0;
    int32_t running = 0;
    bool loaded = false;
  };

  core::CoreOptions Options() const {
    core::CoreOptions options;
    options.link_probe = core::LinkProbing::kOff;
    options.waiting_room_requests = 100000;
    options.waiting_room_tokens = {int64_t{1} << 40};
    // Ten missed beats, whatever the beat.
    options.suspect_after = core::Milliseconds(5 * scale_.heartbeat_ms);
    options.fence_after = core::Milliseconds(10 * scale_.heartbeat_ms);
    return options;
  }

  static core::Incarnation IncarnationOf(uint32_t i) { return {uint64_t{i} + 1, 1}; }

  void Attach(int i) {
    core::WorkerAttached event;
    event.device.node = absl::StrCat("n", i / kDevicesPerNode);
    event.device.index = static_cast<uint32_t>(i % kDevicesPerNode);
    event.device.kind = "sim";
    event.device.uuid = absl::StrCat("u", i);
    event.device.memory_total = event.device.memory_budget = event.device.memory_free = {24 * kGiB};
    event.incarnation = IncarnationOf(static_cast<uint32_t>(i));
    devices_.push_back({});
    Step(event, &placing_);
  }

  void Pass(int64_t us) {
    const int64_t until = now_.us + us;
    while (now_.us < until) Next(until);
  }

  void Next(int64_t until) {
    const int64_t first = due_.empty() ? INT64_MAX : due_.top().at;
    const int64_t at = std::min({first, next_beat_, next_request_, core_.NextDeadline().us, until});
    now_.us = std::max(now_.us, at);
    if (at == core_.NextDeadline().us) return Tick();
    if (at == next_request_) return Arrive();
    if (at == next_beat_) return Beat();
    if (at != first) return;
    const Due due = due_.top();
    due_.pop();
    switch (due.kind) {
      case Kind::kStart:
        Step(core::RequestStarted{due.request, due.attempt, {}}, &costs_.starts);
        return Step(core::RequestComputed{due.request, due.attempt}, &costs_.starts);
      case Kind::kEnd:
        --devices_[due.device].running;
        return Step(core::RequestEnded{due.request, due.attempt, core::EndedHow::kStopped, {64}, ""}, &costs_.ends);
      case Kind::kFormed: {
        const Device& device = devices_[due.device];
        return Step(core::GroupFormed{{due.device}, device.group, device.epoch}, &placing_);
      }
      case Kind::kLoaded:
        return Loaded(due.device);
    }
  }

  // A look for moves plans the whole cluster: it is no event that load brings, and is told by itself.
  void Tick() {
    if (core_.state().move_at > now_) return Step(core::Ticked{}, &costs_.ticks);
    const int64_t begin = CpuNanos();
    Step(core::Ticked{}, &placing_);
    const int64_t took = CpuNanos() - begin;
    ++looks_, look_ns_ += took, longest_look_ns_ = std::max(longest_look_ns_, took);
  }

  // One after the other, evenly over their period, as those of machines are that were not started at one instant. One
  // event, changed in place: 72 million of them must not allocate, nor push the core out of the caches.
  void Beat() {
    const uint32_t i = beating_;
    beating_ = (beating_ + 1) % static_cast<uint32_t>(devices_.size());
    next_beat_ = now_.us + scale_.heartbeat_ms * 1000 / static_cast<int64_t>(devices_.size()) + (i % 2);
    Device& device = devices_[i];
    auto& beat = std::get<core::HeartbeatReceived>(beat_);
    beat.device = {i};
    beat.incarnation = IncarnationOf(i);
    beat.memory_free = {8 * kGiB};
    beat.loads.resize(device.loaded ? 1 : 0);
    if (device.loaded) {
      core::GroupLoad& load = beat.loads[0];
      load.group = device.group;
      load.epoch = device.epoch;
      load.rank0 = true;
      load.busy = device.running > 0;
      device.steps += device.running > 0;
      load.progress = load.steps = device.steps;
      load.running = device.running;
      load.free_blocks = 3000 - device.running * 16;
    }
    Step(beat_, &costs_.beats);
  }

  void Loaded(uint32_t i) {
    Device& device = devices_[i];
    Step(core::ModelLoaded{{i}, device.group, device.epoch, {16 * kGiB}}, &placing_);
    core::GroupReady ready;
    ready.device = {i};
    ready.group = device.group;
    ready.epoch = device.epoch;
    ready.kv_blocks = 3000;
    ready.max_sequences = kPlacesOfGroup;
    ready.max_model_len = 2048;
    ready.kv_bytes = {6 * kGiB};
    Step(ready, &placing_);
    device.loaded = true;
  }

  void Arrive() {
    next_request_ += std::max<int64_t>(1, random_.Below(2 * kSecondUs / scale_.requests_per_second));
    core::RequestArrived event;
    event.request = {random_.Next(), random_.Next()};
    event.model = models_[random_.Below(scale_.models)].name;
    event.prompt = {random_.Between(10, 1000)};
    event.max_tokens = core::Tokens{random_.Between(10, 512)};
    event.deadline = core::Seconds(120);
    Step(event, &costs_.arrivals);
  }

  void Step(const core::Event& event, Cost* cost) {
    const bool timed = cost->count++ % kSampled == 0;
    const int64_t begin = timed ? EventNanos() : 0;
    const core::Actions actions = core_.Step(now_, event);
    if (timed) cost->Add(EventNanos() - begin);
    for (const core::Action& action : actions) Obey(action);
  }

  void Obey(const core::Action& action) {
    if (const auto* assign = std::get_if<core::AssignRequest>(&action)) {
      const uint32_t device = assign->rank0.value;
      ++devices_[device].running;
      const int64_t started = now_.us + random_.Between(200, 20000);
      due_.push({started, Kind::kStart, device, assign->request, assign->attempt});
      due_.push({started + random_.Between(500, 8000) * 1000, Kind::kEnd, device, assign->request, assign->attempt});
    } else if (const auto* form = std::get_if<core::FormGroup>(&action)) {
      Device& device = devices_[form->members[0].value];
      device.group = form->group;
      device.epoch = form->epoch;
      due_.push({now_.us + 1000, Kind::kFormed, form->members[0].value, {}, {}});
    } else if (const auto* load = std::get_if<core::LoadModel>(&action)) {
      due_.push({now_.us + random_.Between(1000, 10000) * 1000, Kind::kLoaded, load->members[0].value, {}, {}});
    } else if (std::holds_alternative<core::CompleteRequest>(action)) {
      ++finished_;
    } else if (std::holds_alternative<core::FailRequest>(action)) {
      ++failed_;
    }
  }

  bool Judge() const {
    bool good = true;
    for (const std::string& broken : core::CheckInvariants(core_.state())) {
      absl::PrintF("BROKEN: %s\n", broken);
      good = false;
    }
    if (!core_.state().requests.empty() || finished_ + failed_ != costs_.arrivals.count) {
      absl::PrintF("BROKEN: of %d requests %d finished, %d failed, %d are left\n", costs_.arrivals.count, finished_,
                   failed_, core_.state().requests.size());
      good = false;
    }
    return good;
  }

  const Scale scale_;
  Random random_;
  core::Core core_;
  Instant now_{1};
  std::vector<core::ModelSpec> models_;
  std::vector<Device> devices_;
  std::priority_queue<Due> due_;
  int64_t next_request_ = INT64_MAX, next_beat_ = INT64_MAX;
  uint32_t beating_ = 0;  // Whose turn it is.
  core::Event beat_ = core::HeartbeatReceived{};
  Costs costs_, settled_;
  Cost placing_;
  int64_t looks_ = 0, look_ns_ = 0, longest_look_ns_ = 0;
  int64_t finished_ = 0, failed_ = 0;
  int64_t placed_ns_ = 0, cpu_ns_ = 0, load_us_ = 0;
};

constexpr int kRounds = 9;
constexpr int64_t kLeastSmallUs = 900 * kSecondUs;  // A hundredth of the events: for as many it takes longer.

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

}  // namespace

int RunScale(const Scale& scale) {
  Fleet large(scale);
  large.Begin();
  if (!scale.baseline) {
    large.Run(scale.seconds * kSecondUs);
    const bool good = large.End();
    large.Print();
    return good ? 0 : 1;
  }
  Scale less = scale;
  less.devices = 100;
  less.models = std::min(scale.models, 20);
  less.requests_per_second = std::max<int64_t>(1, scale.requests_per_second * 100 / scale.devices);
  Fleet small(less);
  small.Begin();
  // In turns, so that whatever else the machine does meets both.
  std::vector<double> small_us, large_us, ratios;
  for (int round = 0; round < kRounds; ++round) {
    const auto run = [&](Fleet& fleet, int64_t us) {
      const Costs before = fleet.costs();
      fleet.Run(us);
      return fleet.costs().Since(before).mean_us();
    };
    const int64_t us = scale.seconds * kSecondUs / kRounds;
    small_us.push_back(run(small, std::max(us, kLeastSmallUs)));
    large_us.push_back(run(large, us));
    ratios.push_back(large_us.back() / small_us.back());
  }
  const bool good = small.End() & large.End();
  small.Print();
  large.Print();
  absl::PrintF(
      "cost of an event in the core, the median of %d rounds in turn: %.2f us at 100 devices, %.2f us at %d: %.2f "
      "times "
      "(%.2f to %.2f)\n",
      kRounds, Median(small_us), Median(large_us), scale.devices, Median(ratios),
      *std::min_element(ratios.begin(), ratios.end()), *std::max_element(ratios.begin(), ratios.end()));
  return good ? 0 : 1;
}

}  // namespace tandem::sim
