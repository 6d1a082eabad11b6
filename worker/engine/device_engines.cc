#include "worker/engine/device_engines.h"

#include <algorithm>
#include <utility>
#include <variant>

namespace tandem::worker {
namespace {

using std::chrono::milliseconds;

constexpr size_t kMostSeen = 1024;

// The group that a command or a report is about; nothing where it is about the device.
template <typename T>
std::optional<GroupRef> GroupOf(const T& what) {
  if constexpr (requires { what.identity; }) {
    return RefOf(what.identity);
  } else if constexpr (requires { what.group; }) {
    return what.group;
  } else {
    return std::nullopt;
  }
}

}  // namespace

DeviceEngines::DeviceEngines(EngineLoop::Options options) : options_(std::move(options)) {
  std::lock_guard lock(mu_);
  AddSeat();
}

DeviceEngines::~DeviceEngines() {
  Post(Stop{"the worker ends"});
  std::vector<Seat> seats;
  {
    std::lock_guard lock(mu_);
    seats.swap(seats_);
  }
}

size_t DeviceEngines::AddSeat() {
  EngineLoop::Options options = options_;
  options.services.turn = &turn_;
  options.report = [this](tandem::worker::Report report) { Report(std::move(report)); };
  Seat& seat = seats_.emplace_back();
  seat.loop = std::make_unique<EngineLoop>(std::move(options));
  if (leader_) seat.loop->Post(*leader_);
  if (line_) seat.loop->Post(*line_);
  return seats_.size() - 1;
}

bool DeviceEngines::Post(Command command) {
  std::lock_guard lock(mu_);
  if (const auto* leader = std::get_if<ObeyLeader>(&command)) leader_ = *leader;
  if (const auto* line = std::get_if<ReplayEverything>(&command)) line_ = *line;
  if (const auto* form = std::get_if<FormGroup>(&command)) return PostTo(SeatFor(form->identity), std::move(command));
  const std::optional<GroupRef> group = std::visit([](const auto& c) { return GroupOf(c); }, command);
  if (!group) return PostToAll(command);
  const size_t seat = SeatOf(*group);
  if (auto* load = std::get_if<LoadModel>(&command)) {
    const bool shared = std::any_of(seats_.begin(), seats_.end(),
                                    [&](const Seat& other) { return other.group && other.group != group; });
    uint32_t& budget = load->spec.step_budget_ms;
    if (shared && seats_[seat].ranks == 1) budget = budget == 0 ? kSharedStepMs : std::min(budget, kSharedStepMs);
  }
  return PostTo(seat, std::move(command));
}

bool DeviceEngines::PostTo(size_t seat, Command command) { return seats_[seat].loop->Post(std::move(command)); }

bool DeviceEngines::PostToAll(const Command& command) {
  bool taken = true;
  for (Seat& seat : seats_) taken &= seat.loop->Post(command);
  return taken;
}

size_t DeviceEngines::SeatOf(const GroupRef& group) const {
  const auto seen = seen_.find(group.id);
  return seen == seen_.end() ? 0 : seen->second;
}

size_t DeviceEngines::SeatFor(const GroupIdentity& identity) {
  const GroupRef ref = RefOf(identity);
  if (const auto seen = seen_.find(ref.id); seen != seen_.end()) {
    Seat& seat = seats_[seen->second];
    if (seat.group && seat.group->id == ref.id) seat.group = std::max(*seat.group, ref);
    return seen->second;
  }
  size_t found = 0;
  const auto in_several = [](const Seat& seat) { return seat.group && seat.ranks > 1; };
  const auto several = std::find_if(seats_.begin(), seats_.end(), in_several);
  const auto empty = std::find_if(seats_.begin(), seats_.end(), [](const Seat& seat) { return !seat.group; });
  if (identity.size > 1 && several != seats_.end()) return several - seats_.begin();  // it will say BUSY
  if (empty != seats_.end()) {
    found = empty - seats_.begin();
  } else if (seats_.size() < kMostGroups) {
    found = AddSeat();
  } else {
    return 0;
  }
  seats_[found].group = ref;
  seats_[found].ranks = identity.size;
  seen_[ref.id] = found;
  // Group ids are never used twice and grow, so the lowest are the oldest.
  for (auto it = seen_.begin(); seen_.size() > kMostSeen && it != seen_.end();) {
    const Seat& seat = seats_[it->second];
    it = seat.group && seat.group->id == it->first ? std::next(it) : seen_.erase(it);
  }
  return found;
}

void DeviceEngines::Report(tandem::worker::Report report) {
  const bool out = std::holds_alternative<GroupFailed>(report) || std::holds_alternative<GroupLeft>(report);
  if (out) {
    const std::optional<GroupRef> group = std::visit([](const auto& r) { return GroupOf(r); }, report);
    std::lock_guard lock(mu_);
    for (Seat& seat : seats_) {
      if (seat.group == group) seat.group.reset();
    }
  }
  options_.report(std::move(report));
}

std::vector<EngineLoop*> DeviceEngines::Loops() const {
  std::lock_guard lock(mu_);
  std::vector<EngineLoop*> loops;
  for (const Seat& seat : seats_) loops.push_back(seat.loop.get());
  return loops;
}

bool DeviceEngines::WaitUntilStopped(milliseconds timeout) {
  const auto until = std::chrono::steady_clock::now() + timeout;
  bool stopped = true;
  for (EngineLoop* loop : Loops()) {
    const auto left = std::chrono::duration_cast<milliseconds>(until - std::chrono::steady_clock::now());
    stopped &= loop->WaitUntilStopped(std::max(left, milliseconds(0)));
  }
  return stopped;
}

milliseconds DeviceEngines::AbortOverdue() const {
  milliseconds most{0};
  for (const EngineLoop* loop : Loops()) most = std::max(most, loop->AbortOverdue());
  return most;
}

std::string DeviceEngines::Occupied() const {
  for (const EngineLoop* loop : Loops()) {
    if (std::string what = loop->Occupied(); !what.empty()) return what;
  }
  return "";
}

std::vector<ShardStatus> DeviceEngines::Status() const {
  std::vector<ShardStatus> all;
  for (const EngineLoop* loop : Loops()) {
    for (ShardStatus& status : loop->Status()) all.push_back(std::move(status));
  }
  return all;
}

std::vector<HeldRequest> DeviceEngines::Held(const GroupRef& group) const {
  for (const EngineLoop* loop : Loops()) {
    for (const ShardStatus& status : loop->Status()) {
      if (status.group == group) return loop->Held(group);
    }
  }
  return {};
}

}  // namespace tandem::worker
