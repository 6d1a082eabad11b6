#include "scheduler/operations.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/core/event_fields.h"
#include "scheduler/grpc_error.h"

namespace tandem::scheduler {
namespace {

// The core's reason by the word under which it was stored; one that this version does not know is kNone.
core::Reason ReasonNamed(const std::string& word) {
  int index = 0;
  for (const char* known : core::EnumWords<core::Reason>::kWords) {
    if (word == known) return static_cast<core::Reason>(index);
    ++index;
  }
  return core::Reason::kNone;
}

// How an ended operation ended, said again.
grpc::Status Outcome(const store::Operation& row) {
  if (row.state == store::Operation::State::kDone) return grpc::Status::OK;
  const core::Reason reason = ReasonNamed(row.refused);
  return ToGrpc({reason == core::Reason::kNone ? kCancelled : KindOf(reason), row.message});
}

core::ReportDrain LastWord(const store::Operation& row) {
  core::ReportDrain report;
  report.operation = {row.id};
  report.message = row.message;
  report.done = true;
  return report;
}

}  // namespace

Operations::Operations(uint64_t leader_epoch, const store::Snapshot& snapshot) : leader_epoch_(leader_epoch) {
  absl::MutexLock lock(&mu_);
  for (const store::Operation& row : snapshot.operations) {
    entries_[row.id].row = row;
    if (!row.key.empty()) keys_[row.key] = row.id;
    ended_ += row.Ended();
  }
}

Operations::Opened Operations::Open(const std::string& verb, const std::string& key, const std::string& request) {
  absl::MutexLock lock(&mu_);
  if (const auto known = keys_.find(key); !key.empty() && known != keys_.end()) {
    const Entry& entry = entries_.at(known->second);
    if (entry.row.request != request) return {Opened::How::kOtherRequest, {known->second}, {}};
    return {Opened::How::kKnown, {known->second}, entry.row.devices};
  }
  const uint64_t id = leader_epoch_ << 32 | ++last_;
  Entry& entry = entries_[id];
  entry.row.id = id;
  entry.row.verb = verb;
  entry.row.key = key;
  entry.row.request = request;
  if (!key.empty()) keys_[key] = id;
  return {Opened::How::kFresh, {id}, {}};
}

Operations::SinkId Operations::Follow(core::OperationId id, Sink sink) {
  absl::MutexLock lock(&mu_);
  const auto found = entries_.find(id.value);
  if (found == entries_.end()) {  // it ended, or came to nothing, while its caller was on the way here
    sink({}, ToGrpc({kCancelled, "the operation is no longer known; ask again with a new key"}));
    return 0;
  }
  Entry& entry = found->second;
  if (entry.row.Ended()) {
    sink(LastWord(entry.row), Outcome(entry.row));
    return 0;
  }
  if (entry.latest.has_value()) sink(*entry.latest, grpc::Status::OK);
  entry.sinks.emplace(++last_sink_, std::move(sink));
  return last_sink_;
}

void Operations::Leave(core::OperationId id, SinkId sink) {
  absl::MutexLock lock(&mu_);
  if (const auto found = entries_.find(id.value); found != entries_.end()) found->second.sinks.erase(sink);
}

store::Operation Operations::Describe(core::OperationId id, store::Operation row) {
  absl::MutexLock lock(&mu_);
  Entry& entry = entries_.at(id.value);
  row.id = id.value;
  row.verb = entry.row.verb;
  row.key = entry.row.key;
  row.request = entry.row.request;
  entry.row = row;
  return row;
}

void Operations::Withdraw(core::OperationId id, const grpc::Status& why) {
  absl::MutexLock lock(&mu_);
  const auto found = entries_.find(id.value);
  if (found == entries_.end()) return;
  for (const auto& [sink_id, sink] : found->second.sinks) sink({}, why);
  Forget(id.value);
}

void Operations::Report(const core::ReportDrain& report) {
  absl::MutexLock lock(&mu_);
  const auto found = entries_.find(report.operation.value);
  if (found == entries_.end()) return;
  Entry& entry = found->second;
  if (!report.done) {
    entry.latest = report;
    for (const auto& [id, sink] : entry.sinks) sink(report, grpc::Status::OK);
    return;
  }
  const grpc::Status outcome = Outcome(entry.row);
  for (const auto& [id, sink] : std::exchange(entry.sinks, {})) sink(report, outcome);
}

std::optional<store::Operation> Operations::Update(const core::KeepDrain& keep) {
  absl::MutexLock lock(&mu_);
  const auto found = entries_.find(keep.operation.value);
  if (found == entries_.end() || found->second.row.Ended()) return std::nullopt;
  Entry& entry = found->second;
  store::Operation& row = entry.row;
  if (keep.outcome == core::DrainOutcome::kRunning) {
    row.state = store::Operation::State::kRunning;
    row.devices = keep.devices;
    row.requests_at_start = keep.requests_at_start;
    return row;
  }
  row.state = keep.outcome == core::DrainOutcome::kDone     ? store::Operation::State::kDone
              : keep.outcome == core::DrainOutcome::kUndone ? store::Operation::State::kUndone
                                                            : store::Operation::State::kRefused;
  if (keep.refused != core::Reason::kNone) {
    row.refused = core::EnumWords<core::Reason>::kWords[static_cast<size_t>(keep.refused)];
  }
  row.message = keep.message;
  entry.latest.reset();
  ++ended_;
  const store::Operation kept = row;
  Trim();
  return kept;
}

std::optional<store::Operation> Operations::Finish(core::OperationId id) {
  absl::MutexLock lock(&mu_);
  const auto found = entries_.find(id.value);
  if (found == entries_.end() || found->second.row.Ended()) return std::nullopt;
  Entry& entry = found->second;
  entry.row.state = store::Operation::State::kDone;
  for (const auto& [sink_id, sink] : std::exchange(entry.sinks, {})) sink(LastWord(entry.row), grpc::Status::OK);
  ++ended_;
  const store::Operation kept = entry.row;
  Trim();
  return kept;
}

void Operations::Trim() {
  for (auto it = entries_.begin(); ended_ > store::kMostEnded && it != entries_.end();) {
    const uint64_t id = it->first;
    const bool drop = it->second.row.Ended() && it->second.sinks.empty();
    ++it;
    if (drop) Forget(id);
  }
}

void Operations::Forget(uint64_t id) {
  const auto found = entries_.find(id);
  const store::Operation& row = found->second.row;
  if (!row.key.empty()) keys_.erase(row.key);
  ended_ -= row.Ended();
  entries_.erase(found);
}

}  // namespace tandem::scheduler
