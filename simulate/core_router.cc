#include "simulate/core_router.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "base/prefix_landmarks.h"
#include "glog/logging.h"
#include "scheduler/core/words.h"

namespace tandem::simulate {
namespace {

constexpr int64_t kHeartbeatNs = 500'000'000;  // of each worker

core::RequestId CoreId(uint32_t request) { return {1, request}; }

core::EndedHow HowOf(worker::Ended::How how) {
  switch (how) {
    case worker::Ended::How::kStopped:
      return core::EndedHow::kStopped;
    case worker::Ended::How::kLengthReached:
      return core::EndedHow::kLengthReached;
    case worker::Ended::How::kAborted:
      return core::EndedHow::kAborted;
    case worker::Ended::How::kRefused:
      return core::EndedHow::kRefused;
    case worker::Ended::How::kFault:
      return core::EndedHow::kFault;
  }
  return core::EndedHow::kFault;
}

}  // namespace

CoreRouter::CoreRouter(Fleet* fleet, const std::vector<std::unique_ptr<SimGroup>>* groups)
    : fleet_(*fleet),
      groups_(*groups),
      begin_us_(fleet->now().us),
      groups_on_(fleet->devices().size()),
      arrival_(core::RequestArrived{}),
      beat_(core::HeartbeatReceived{}) {
  for (uint32_t g = 0; g < fleet_.groups().size(); ++g) {
    group_of_.emplace(fleet_.groups()[g].id, g);
    for (const core::DeviceId device : fleet_.groups()[g].members) groups_on_[device.value].push_back(g);
  }
}

void CoreRouter::Arrive(int64_t now, const Arrival& arrival, Decisions& out) {
  auto& event = std::get<core::RequestArrived>(arrival_);
  event.request = CoreId(arrival.request);
  event.model = fleet_.model().name;
  event.prompt = {arrival.prompt_tokens};
  event.tenant = std::string(arrival.tenant);
  event.prefix.assign(arrival.landmarks.begin(), arrival.landmarks.end());
  event.bytes = {int64_t{arrival.prompt_tokens} * 4};
  Step(now, arrival_, out);
}

void CoreRouter::Hear(int64_t now, uint32_t, const worker::RequestUpdate& update, Decisions& out) {
  const core::RequestId id = CoreId(RequestOf(update.id));
  const core::Attempt attempt{update.id.attempt.leader, update.id.attempt.counter};
  if (const auto* started = std::get_if<worker::Started>(&update.what)) {
    computing_.insert(RequestOf(update.id));
    Step(now, core::RequestStarted{id, attempt, {started->cached_tokens}, {}}, out);
  } else if (std::holds_alternative<worker::Produced>(update.what)) {
    if (computing_.erase(RequestOf(update.id)) > 0) Step(now, core::RequestComputed{id, attempt}, out);
  } else if (std::holds_alternative<worker::Preempted>(update.what)) {
    Step(now, core::RequestPreempted{id, attempt}, out);
  } else if (const auto* ended = std::get_if<worker::Ended>(&update.what)) {
    computing_.erase(RequestOf(update.id));
    Step(now, core::RequestEnded{id, attempt, HowOf(ended->how), {ended->output_tokens}, ended->message}, out);
  }
}

void CoreRouter::CacheChanged(int64_t now, uint32_t group, const worker::BlockAllocator::Changes& changes,
                              Decisions& out) {
  if (changes.empty()) return;
  const FleetGroup& of = fleet_.groups()[group];
  core::CacheChanged event{of.members[0], of.id, of.epoch};
  for (const PrefixHash& hash : changes.stored) event.stored.push_back(LandmarkOf(hash));
  for (const PrefixHash& hash : changes.evicted) event.evicted.push_back(LandmarkOf(hash));
  Step(now, event, out);
}

int64_t CoreRouter::next_wake() const {
  const core::Instant deadline = fleet_.core().NextDeadline();
  return deadline == core::kNever ? next_beat_ : std::min(next_beat_, (deadline.us - begin_us_) * 1000);
}

void CoreRouter::Wake(int64_t now, Decisions& out) {
  if (now >= next_beat_) return Beat(now, out);
  Step(now, core::Ticked{}, out);
}

// One device after the other, evenly over their period.
void CoreRouter::Beat(int64_t now, Decisions& out) {
  const FleetDevice& device = fleet_.devices()[beating_];
  auto& beat = std::get<core::HeartbeatReceived>(beat_);
  beat.device = {static_cast<uint32_t>(beating_)};
  beat.incarnation = device.incarnation;
  beat.memory_free = device.free;
  beat.memory_process = device.process;
  beat.loads.clear();
  for (const uint32_t g : groups_on_[beating_]) {
    const FleetGroup& group = fleet_.groups()[g];
    const SimGroup::Status status = groups_[g]->status();
    core::GroupLoad& load = beat.loads.emplace_back();
    load.group = group.id;
    load.epoch = group.epoch;
    load.progress = status.steps;
    load.busy = status.busy;
    load.rank0 = group.members[0] == beat.device;
    if (!load.rank0) continue;
    load.free_blocks = status.free_blocks;
    load.running = status.running;
    load.waiting = status.waiting;
    load.steps = status.steps;
    load.preemptions = status.preemptions;
    load.step_us = status.step_us;
    load.step_tokens = status.step_tokens;
  }
  beating_ = (beating_ + 1) % fleet_.devices().size();
  next_beat_ = now + kHeartbeatNs / static_cast<int64_t>(fleet_.devices().size());
  Step(now, beat_, out);
}

void CoreRouter::Step(int64_t now, const core::Event& event, Decisions& out) {
  for (const core::Action& action : fleet_.core().Step({begin_us_ + now / 1000}, event)) {
    if (const auto* assign = std::get_if<core::AssignRequest>(&action)) {
      out.sent.push_back({static_cast<uint32_t>(assign->request.lo),
                          group_of_.at(assign->group),
                          {assign->attempt.leader, assign->attempt.counter}});
    } else if (const auto* fail = std::get_if<core::FailRequest>(&action)) {
      out.refused.push_back({static_cast<uint32_t>(fail->request.lo), std::string(core::Words(fail->reason))});
    }
    CHECK(!std::holds_alternative<core::AbortGroup>(action) && !std::holds_alternative<core::DropWorker>(action))
        << "the core gave up a simulated group";
  }
}

}  // namespace tandem::simulate
