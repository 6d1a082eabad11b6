#include "worker/engine/request_log.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace tandem::worker {

void RequestLog::Add(std::shared_ptr<const Request> request) {
  AttemptId id = request->id;
  Entry entry{.output = request->output};
  entry.request = std::move(request);
  std::lock_guard lock(mu_);
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
  if (it != entries_.end() && it->second.ended && !it->second.drop_at) it->second.drop_at = now + retention;
}

void RequestLog::Expire(SteadyTime now) {
  std::lock_guard lock(mu_);
  std::erase_if(entries_, [&](const auto& item) { return item.second.drop_at && *item.second.drop_at <= now; });
  while (!ended_.empty() && !entries_.contains(ended_.front())) ended_.pop_front();
}

std::vector<RequestUpdate> RequestLog::Replay(const AttemptId& id, uint32_t from) const {
  std::lock_guard lock(mu_);
  std::vector<RequestUpdate> out;
  auto it = entries_.find(id);
  if (it != entries_.end()) Append(it->second, from, out);
  return out;
}

std::vector<RequestUpdate> RequestLog::ReplayAll() const {
  std::lock_guard lock(mu_);
  std::vector<RequestUpdate> out;
  for (const auto& [id, entry] : entries_) {
    if (!entry.drop_at) Append(entry, static_cast<uint32_t>(entry.request->output.size()), out);
  }
  return out;
}

void RequestLog::Append(const Entry& entry, uint32_t from, std::vector<RequestUpdate>& out) {
  const AttemptId& id = entry.request->id;
  const size_t known = entry.request->output.size();  // These have no logprobs here.
  for (size_t begin = from; begin < entry.output.size();) {
    size_t end = std::min(begin + kReplayPiece, entry.output.size());
    if (begin < known) end = std::min(end, known);
    Produced produced{.first_index = static_cast<uint32_t>(begin)};
    produced.tokens.assign(entry.output.begin() + begin, entry.output.begin() + end);
    if (begin >= known && !entry.logprobs.empty()) {
      produced.logprobs.assign(entry.logprobs.begin() + (begin - known), entry.logprobs.begin() + (end - known));
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
