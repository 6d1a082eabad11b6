#include "scheduler/intent_keeper.h"

#include <algorithm>
#include <utility>

#include "scheduler/core/event_fields.h"

namespace tandem::scheduler {
namespace {

core::OnDeadline OnDeadlineNamed(const std::string& word) {
  int index = 0;
  for (const char* known : core::EnumWords<core::OnDeadline>::kWords) {
    if (word == known) return static_cast<core::OnDeadline>(index);
    ++index;
  }
  return core::OnDeadline::kWait;  // of a version that knows more: waiting harms nobody
}

core::KnownDevice KnownFrom(const store::Device& row, absl::Time wall_now) {
  core::KnownDevice known;
  known.node = row.node;
  known.index = row.index;
  known.kind = row.kind;
  known.model = row.model;
  known.uuid = row.uuid;
  known.memory_budget = {row.memory_budget};
  known.cordoned = row.cordoned;
  known.drained = row.drained;
  known.quarantined = row.quarantined;
  known.reason = row.reason;
  if (row.since_us > 0) known.wished_since = {std::max<int64_t>(0, absl::ToUnixMicros(wall_now) - row.since_us)};
  return known;
}

store::Device RowFrom(const core::KnownDevice& known) {
  store::Device row;
  row.node = known.node;
  row.index = known.index;
  row.kind = known.kind;
  row.model = known.model;
  row.uuid = known.uuid;
  row.memory_budget = known.memory_budget.value;
  row.cordoned = known.cordoned;
  row.drained = known.drained;
  row.quarantined = known.quarantined;
  row.reason = known.reason;
  return row;
}

bool SameWish(const store::Device& a, const store::Device& b) {
  return a.cordoned == b.cordoned && a.drained == b.drained && a.quarantined == b.quarantined && a.reason == b.reason;
}

}  // namespace

std::string OnDeadlineWord(core::OnDeadline on_deadline) {
  return core::EnumWords<core::OnDeadline>::kWords[static_cast<size_t>(on_deadline)];
}

// ---- towards the store --------------------------------------------------------------------------------------------

IntentKeeper::IntentKeeper(Hand hand, Operations* operations, const store::Snapshot& snapshot)
    : hand_(std::move(hand)), operations_(operations) {
  for (const store::Device& row : snapshot.devices) devices_[row.Name()] = row;
}

void IntentKeeper::Keep(const core::KeepDevice& action) {
  store::Device row = RowFrom(action.device);
  row.seen_us = absl::ToUnixMicros(absl::Now());
  store::Device& before = devices_[row.Name()];
  if (action.device.HasWish()) row.since_us = SameWish(row, before) ? before.since_us : row.seen_us;
  before = row;
  batch_.devices.push_back(std::move(row));
}

void IntentKeeper::Keep(const core::ForgetDevice& action) {
  devices_.erase(action.name);
  batch_.forgotten_devices.push_back(action.name);
}

std::optional<double> IntentKeeper::Keep(const core::KeepDrain& action) {
  auto row = operations_->Update(action);
  if (!row) return std::nullopt;
  const int64_t asked_us = row->asked_us;
  batch_.operations.push_back(*std::move(row));
  return static_cast<double>(absl::ToUnixMicros(absl::Now()) - asked_us) / 1e6;
}

core::DrainRequested IntentKeeper::Ask(const core::AskDrain& action) {
  core::DrainRequested event;
  event.operation = operations_->Open("drain", "", "").id;
  event.devices = {action.device};
  event.reason = action.reason;
  event.deadline = action.deadline;
  store::Operation row;
  row.devices = {action.name};
  row.reason = action.reason;
  row.on_deadline = OnDeadlineWord(event.on_deadline);
  row.asked_us = absl::ToUnixMicros(absl::Now());
  row.deadline_us = row.asked_us + action.deadline.us;
  batch_.operations.push_back(operations_->Describe(event.operation, std::move(row)));
  return event;
}

void IntentKeeper::Finished(core::OperationId operation) {
  if (auto row = operations_->Finish(operation)) batch_.operations.push_back(*std::move(row));
  EndOfStep();
}

void IntentKeeper::EndOfStep() {
  if (batch_.devices.empty() && batch_.forgotten_devices.empty() && batch_.operations.empty()) return;
  hand_(std::exchange(batch_, {}));
}

// ---- back from it -------------------------------------------------------------------------------------------------

Recollection Recall(const store::Snapshot& snapshot, uint64_t leader_epoch, int expected_devices, absl::Time wall_now) {
  Recollection out;
  out.started.leader_epoch = leader_epoch;
  out.started.expected_devices = expected_devices;
  std::map<std::string, core::DeviceId> ids;  // as the core will number them
  for (const store::Device& row : snapshot.devices) {
    ids[row.Name()] = {static_cast<uint32_t>(out.started.devices.size())};
    out.started.devices.push_back(KnownFrom(row, wall_now));
  }
  for (const store::Operation& row : snapshot.operations) {
    const core::Duration left{row.deadline_us - absl::ToUnixMicros(wall_now)};
    std::optional<core::GroupId> group;
    if (row.group != 0) group = core::GroupId{row.group};
    const core::OnDeadline on_deadline = OnDeadlineNamed(row.on_deadline);
    if (row.state == store::Operation::State::kRunning) {
      core::KnownDrain& drain = out.started.drains.emplace_back();
      drain.operation = {row.id};
      drain.devices = row.devices;
      drain.group = group;
      drain.reason = row.reason;
      drain.left = left;
      drain.on_deadline = on_deadline;
      drain.force = row.force;
      drain.requests_at_start = row.requests_at_start;
    }
    if (row.state != store::Operation::State::kAsked) continue;
    Unfinished again{{row.id}, {}, row.verb == "drain"};
    std::vector<core::DeviceId> devices;
    for (const std::string& name : row.devices) {
      if (const auto found = ids.find(name); found != ids.end()) devices.push_back(found->second);
    }
    if (again.drain) {
      core::DrainRequested drain;
      drain.operation = {row.id};
      drain.devices = devices;
      drain.group = group;
      drain.reason = row.reason;
      drain.deadline = std::max(left, core::Milliseconds(1));
      drain.on_deadline = on_deadline;
      drain.force = row.force;
      again.events.push_back(std::move(drain));
    }
    for (core::DeviceId id : devices) {
      if (row.verb == "cordon") again.events.push_back(core::CordonRequested{id, row.reason});
      if (row.verb == "uncordon") again.events.push_back(core::UncordonRequested{id});
      if (row.verb == "undrain") again.events.push_back(core::UndrainRequested{id});
    }
    out.unfinished.push_back(std::move(again));
  }
  return out;
}

}  // namespace tandem::scheduler
