#include "tests/sim/sim_group.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace tandem::sim {
namespace {

constexpr int64_t kCallTimeout = 600 * kSecond;
constexpr int64_t kDeathSeenWithin = 100 * kMs;

class SimCommunicator final : public worker::Communicator {
 public:
  SimCommunicator(std::shared_ptr<Meeting> meeting, int rank) : meeting_(std::move(meeting)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return meeting_->size(); }

  absl::Status AllReduceSum(absl::Span<float> values) override {
    auto all = meeting_->Exchange(rank_, Bytes(values.data(), values.size() * sizeof(float)));
    if (!all.ok()) return all.status();
    std::fill(values.begin(), values.end(), 0.0f);
    for (const std::string& one : *all) {
      for (size_t i = 0; i < values.size(); ++i) {
        float value;
        std::memcpy(&value, one.data() + i * sizeof(float), sizeof(float));
        values[i] += value;
      }
    }
    return absl::OkStatus();
  }
  absl::Status Gather(absl::Span<const float> send, absl::Span<float> receive) override {
    auto all = meeting_->Exchange(rank_, Bytes(send.data(), send.size() * sizeof(float)));
    if (!all.ok()) return all.status();
    if (rank_ == 0) Concatenate(*all, receive.data());
    return absl::OkStatus();
  }
  absl::Status AllGather(absl::Span<const uint8_t> send, absl::Span<uint8_t> receive) override {
    auto all = meeting_->Exchange(rank_, Bytes(send.data(), send.size()));
    if (!all.ok()) return all.status();
    Concatenate(*all, receive.data());
    return absl::OkStatus();
  }
  absl::Status Barrier() override { return meeting_->Exchange(rank_, "").status(); }
  absl::Status Health() const override { return meeting_->Health(); }
  void Abort(absl::string_view reason) override { meeting_->Abort(rank_, reason); }

 private:
  static std::string Bytes(const void* data, size_t size) { return std::string(static_cast<const char*>(data), size); }
  static void Concatenate(const std::vector<std::string>& all, void* to) {
    char* out = static_cast<char*>(to);
    for (const std::string& one : all) {
      std::memcpy(out, one.data(), one.size());
      out += one.size();
    }
  }
  const std::shared_ptr<Meeting> meeting_;
  const int rank_;
};

class SimPlanQueue final : public worker::PlanQueue {
 public:
  SimPlanQueue(std::shared_ptr<Meeting> meeting, int rank) : meeting_(std::move(meeting)), rank_(rank) {}

  absl::Status Publish(uint64_t step, absl::string_view bytes) override {
    if (step != meeting_->plans().size() + 1) return absl::FailedPreconditionError("not the next step");
    if (absl::Status health = meeting_->Health(); !health.ok()) return health;
    meeting_->Publish(std::string(bytes));
    return absl::OkStatus();
  }
  absl::StatusOr<Received> Next(absl::Duration timeout) override {
    const int64_t deadline = meeting_->world().now() + absl::ToInt64Microseconds(timeout);
    Process& process = meeting_->process(rank_);
    while (true) {
      if (std::exchange(woken_, false)) return Received{.kind = Received::kWoken};
      if (read_ < meeting_->plans().size()) {
        const std::string& plan = meeting_->plans()[read_++];
        return Received{.kind = Received::kMessage, .step = read_, .bytes = plan};
      }
      if (process.dead()) return absl::AbortedError("killed");
      if (absl::Status health = meeting_->Health(); !health.ok()) return health;
      if (meeting_->world().now() >= deadline) return Received{.kind = Received::kTimedOut};
      process.Sleep(deadline - meeting_->world().now());
    }
  }
  void WakeSelf() override {
    woken_ = true;
    meeting_->process(rank_).Wake();
  }

 private:
  const std::shared_ptr<Meeting> meeting_;
  const int rank_;
  size_t read_ = 0;
  bool woken_ = false;
};

}  // namespace

absl::Status Meeting::Join(int rank, std::shared_ptr<Process> process) {
  if (rank < 0 || rank >= size() || processes_[rank]) {
    return absl::AlreadyExistsError(absl::StrCat("rank ", rank, " of ", size(), " is taken"));
  }
  processes_[rank] = std::move(process);
  if (complete()) WakeAll();
  return absl::OkStatus();
}

bool Meeting::complete() const {
  return std::all_of(processes_.begin(), processes_.end(), [](const auto& process) { return process != nullptr; });
}

void Meeting::WakeAll() {
  for (const auto& process : processes_) {
    if (process) process->Wake();
  }
}

void Meeting::Abort(int rank, absl::string_view reason) {
  if (aborted_) return;
  aborted_ = absl::StrCat("group aborted: rank ", rank, ": ", reason);
  WakeAll();
}

bool Meeting::has(const Process* process) const {
  return std::any_of(processes_.begin(), processes_.end(), [&](const auto& p) { return p.get() == process; });
}

void Meeting::NoteDeath(const Process* process) {
  for (int rank = 0; rank < size(); ++rank) {
    if (processes_[rank].get() == process) dead_[rank] = true;
  }
  WakeAll();
}

absl::Status Meeting::Health() const {
  if (aborted_) return absl::AbortedError(*aborted_);
  for (int rank = 0; rank < size(); ++rank) {
    if (dead_[rank]) return absl::UnavailableError(absl::StrCat("the process of rank ", rank, " exited"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> Meeting::Exchange(int rank, std::string mine) {
  const uint64_t number = ++rounds_done_[rank];
  Round& round = rounds_[number];
  round.handed_in.resize(size());
  round.handed_in[rank] = std::move(mine);
  WakeAll();
  const int64_t deadline = world_->now() + kCallTimeout;
  const auto all_there = [&] {
    return std::all_of(round.handed_in.begin(), round.handed_in.end(), [](const auto& one) { return one.has_value(); });
  };
  while (!all_there()) {
    if (processes_[rank]->dead()) return absl::AbortedError("killed");
    if (aborted_) return absl::AbortedError(*aborted_);
    for (int peer = 0; peer < size(); ++peer) {
      if (!dead_[peer] || round.handed_in[peer]) continue;
      const absl::Status lost = absl::UnavailableError(absl::StrCat("the process of rank ", peer, " exited"));
      Abort(rank, lost.message());
      return lost;
    }
    if (world_->now() >= deadline) {
      Abort(rank, "a collective did not end");
      return absl::DeadlineExceededError("a collective did not end");
    }
    processes_[rank]->Sleep(deadline - world_->now());
  }
  std::vector<std::string> all;
  for (const auto& one : round.handed_in) all.push_back(*one);
  if (++round.taken == size()) rounds_.erase(number);
  return all;
}

void Meeting::Publish(std::string plan) {
  plans_.push_back(std::move(plan));
  WakeAll();
}

absl::StatusOr<std::unique_ptr<worker::GroupChannel>> MeetingPlace::Join(const worker::GroupIdentity& identity,
                                                                         std::shared_ptr<Process> process,
                                                                         const std::atomic<bool>* cancelled) {
  if (identity.size == 1) return std::make_unique<worker::GroupChannel>(identity);
  const auto key = std::pair(identity.group_id, identity.epoch);
  std::shared_ptr<Meeting> meeting = meetings_[key].lock();
  if (!meeting) {
    meeting = std::make_shared<Meeting>(world_, identity.size);
    meetings_[key] = meeting;
  }
  const int rank = identity.rank;
  if (absl::Status joined = meeting->Join(rank, process); !joined.ok()) return joined;
  const int64_t deadline = world_->now() + absl::ToInt64Microseconds(identity.deadline);
  while (!meeting->complete()) {
    if (process->dead()) return absl::AbortedError("killed");
    if (*cancelled) return absl::CancelledError("the join was cancelled");
    if (absl::Status health = meeting->Health(); !health.ok()) return health;
    if (world_->now() >= deadline) {
      return absl::DeadlineExceededError(absl::StrCat(identity.ToString(), ": not all ranks came"));
    }
    // Also twice a second: `cancelled` is set without a word.
    process->Sleep(std::min<int64_t>(deadline - world_->now(), 50 * kMs));
  }
  return std::make_unique<worker::GroupChannel>(identity, std::make_unique<SimPlanQueue>(meeting, rank),
                                                std::make_unique<SimCommunicator>(meeting, rank));
}

void MeetingPlace::NoteDeath(const std::shared_ptr<Process>& process) {
  std::erase_if(meetings_, [](const auto& entry) { return entry.second.expired(); });
  for (const auto& [key, weak] : meetings_) {
    if (!weak.lock()->has(process.get())) continue;
    world_->After(world_->random().Below(kDeathSeenWithin), [weak = weak, process] {
      if (auto meeting = weak.lock()) meeting->NoteDeath(process.get());
    });
  }
}

}  // namespace tandem::sim
