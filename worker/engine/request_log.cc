#include "worker/engine/request_log.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

namespace tandem::worker {

void RequestLog::Add(std::shared_ptr<const Request> request) {
  AttemptId id = request->id;
  Entry entry{.output = request->output, .logprobs = request->output_logprobs};
  entry.request = std::move(request);
  std::lock_guard lock(mu_);
  leader_ = std::max(leader_, id.attempt.leader);
  entries_.insert_or_assign(id, std::move(entry));
}

void RequestLog::Note(const RequestUpdate& update) {
  std::lock_guard lock(mu_);
  auto it = entries_.find(update.id);
  if (it == entries_.end()) return;
  Entry& entry = it->second;
  if (const auto* produced = std::get_if<Produced>(&update.what)) {
    entry.output.insert(entry.output.end(), produced->tokens.begin(), produced->tokens.end());
    entry.logprobs.insert(entry.logprobs.end(), produced->logprobs.begin(), produced->logprobs.end());
  } else if (const auto* started = std::get_if<Started>(&update.what)) {
    if (!entry.started) entry.started = *started;
    entry.preempted = false;
  } else if (std::holds_alternative<Preempted>(update.what)) {
    entry.preempted = true;
  } else if (const auto* ended = std::get_if<Ended>(&update.what)) {
    entry.ended = *ended;
    ended_.push_back(update.id);
    if (ended_.size() > kMostEnded) {
      entries_.erase(ended_.front());
      ended_.pop_front();
    }
  }
}

void RequestLog::Acknowledge(const AttemptId& id, SteadyTime now, SteadyTime::duration retention) {
  std::lock_guard lock(mu_);
  auto it = entries_.find(id);
  if (it == entries_.end() || !it->second.ended) return;
  it->second.acknowledged = true;
  if (!it->second.drop_at) it->second.drop_at = now + retention;
}

void RequestLog::Expire(SteadyTime now) {
  std::lock_guard lock(mu_);
  std::erase_if(entries_, [&](const auto& item) { return item.second.drop_at && *item.second.drop_at <= now; });
  while (!ended_.empty() && !entries_.contains(ended_.front())) ended_.pop_front();
}

std::vector<RequestUpdate> RequestLog::ReplayAll(uint64_t leader_epoch, const std::string& numerics_id) {
  std::lock_guard lock(mu_);
  if (leader_epoch > leader_) {
    leader_ = leader_epoch;
    for (auto& [id, entry] : entries_) entry.acknowledged = false;
  }
  const std::set<AttemptId> too_old = TooOldToTell();
  std::vector<RequestUpdate> out;
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    const auto& [id, entry] = *it;
    if (entry.acknowledged) continue;
    const auto next = std::next(it);
    const bool latest = next == entries_.end() || next->first.request != id.request;
    if (id.attempt.leader == leader_) {
      Append(entry, static_cast<uint32_t>(entry.request->output.size()), out);
    } else if (latest && !too_old.contains(id)) {
      AppendHeld(entry, numerics_id, out);
    }
  }
  return out;
}

std::set<AttemptId> RequestLog::TooOldToTell() const {
  std::set<AttemptId> too_old;
  size_t bytes = 0;
  for (auto id = ended_.rbegin(); id != ended_.rend(); ++id) {
    const auto it = entries_.find(*id);
    if (it == entries_.end() || it->second.acknowledged || id->attempt.leader == leader_) continue;
    bytes += it->second.bytes();
    if (bytes > kMostEndedBytes) too_old.insert(*id);
  }
  return too_old;
}

size_t RequestLog::Entry::bytes() const {
  size_t pairs = 0;
  for (const PositionLogprobs& position : logprobs) pairs += 1 + position.top.size();
  return sizeof(TokenId) * (request->prompt.size() + output.size()) + sizeof(TokenLogprob) * pairs;
}

void RequestLog::AppendHeld(const Entry& entry, const std::string& numerics_id, std::vector<RequestUpdate>& out) const {
  const AttemptId& id = entry.request->id;
  out.push_back({id, tandem::worker::Held{.request = entry.request,
                                          .ended = entry.ended.has_value(),
                                          .output_tokens = static_cast<uint32_t>(entry.output.size()),
                                          .numerics_id = numerics_id}});
  if (entry.started) out.push_back({id, *entry.started});
  const size_t end = out.size();
  Append(entry, 0, out);
  if (entry.preempted && !entry.ended) out.push_back({id, Preempted{}});
  // A position whose logprobs are not known has empty ones: one for each token, or the reader sees a fault.
  if (!entry.request->logprobs) return;
  for (size_t i = end; i < out.size(); ++i) {
    auto* produced = std::get_if<Produced>(&out[i].what);
    if (produced != nullptr && produced->logprobs.empty()) {
      produced->logprobs.assign(produced->tokens.size(), UnknownLogprobs());
    }
  }
}

void RequestLog::Append(const Entry& entry, uint32_t from, std::vector<RequestUpdate>& out) {
  const AttemptId& id = entry.request->id;
  const size_t unknown = entry.output.size() - entry.logprobs.size();  // These have no logprobs here.
  const size_t piece = entry.logprobs.empty() ? kReplayPiece : kReplayPieceWithLogprobs;
  for (size_t begin = from; begin < entry.output.size();) {
    size_t end = std::min(begin + piece, entry.output.size());
    if (begin < unknown) end = std::min(end, unknown);
    Produced produced{.first_index = static_cast<uint32_t>(begin)};
    produced.tokens.assign(entry.output.begin() + begin, entry.output.begin() + end);
    if (begin >= unknown) {
      produced.logprobs.assign(entry.logprobs.begin() + (begin - unknown), entry.logprobs.begin() + (end - unknown));
    }
    out.push_back({.id = id, .what = std::move(produced)});
    begin = end;
  }
  if (entry.ended) out.push_back({.id = id, .what = *entry.ended});
}

bool RequestLog::has(const AttemptId& id) const {
  std::lock_guard lock(mu_);
  return entries_.contains(id);
}

std::optional<AttemptId> RequestLog::LatestAttempt(const std::array<uint8_t, 16>& request) const {
  constexpr GroupEpoch kLast{.leader = std::numeric_limits<uint64_t>::max(),
                             .counter = std::numeric_limits<uint32_t>::max()};
  std::lock_guard lock(mu_);
  auto it = entries_.upper_bound(AttemptId{.request = request, .attempt = kLast});
  if (it == entries_.begin() || (--it)->first.request != request) return std::nullopt;
  return it->first;
}

std::vector<HeldRequest> RequestLog::Held() const {
  std::lock_guard lock(mu_);
  std::vector<HeldRequest> held;
  for (const auto& [id, entry] : entries_) {
    held.push_back({.id = id,
                    .prompt_tokens = static_cast<uint32_t>(entry.request->prompt.size()),
                    .output_tokens = static_cast<uint32_t>(entry.output.size()),
                    .ended = entry.ended.has_value()});
  }
  return held;
}

}  // namespace tandem::worker
