#include "scheduler/request_store.h"

#include <algorithm>
#include <utility>

namespace tandem::scheduler {

std::shared_ptr<RequestStream> RequestStore::AddOrFind(std::shared_ptr<RequestStream> stream) {
  const auto& facts = stream->facts();
  if (!facts.idempotency_key.empty()) {
    // The key's lock is held until the request can be found by its id, so that two equal calls become one request.
    absl::MutexLock lock(&keys_mu_);
    const auto [it, added] = keys_.try_emplace({facts.tenant, facts.idempotency_key}, facts.id);
    if (!added) {
      if (auto other = Find(it->second); other && other->MayAttach()) return other;
      it->second = facts.id;
    }
    Shard& shard = ShardOf(facts.id);
    absl::MutexLock shard_lock(&shard.mu);
    shard.entries[facts.id] = {stream};
  } else {
    Shard& shard = ShardOf(facts.id);
    absl::MutexLock lock(&shard.mu);
    shard.entries[facts.id] = {stream};
  }
  living_.fetch_add(1, std::memory_order_relaxed);
  return stream;
}

void RequestStore::Replace(std::shared_ptr<RequestStream> stream) {
  Shard& shard = ShardOf(stream->facts().id);
  absl::MutexLock lock(&shard.mu);
  const auto it = shard.entries.find(stream->facts().id);
  if (it != shard.entries.end() && !it->second.retired) it->second.stream = std::move(stream);
}

std::shared_ptr<RequestStream> RequestStore::Find(core::RequestId id) const {
  const Shard& shard = ShardOf(id);
  absl::MutexLock lock(&shard.mu);
  const auto it = shard.entries.find(id);
  return it == shard.entries.end() ? nullptr : it->second.stream;
}

std::shared_ptr<RequestStream> RequestStore::FindByKey(const std::string& tenant, const std::string& key) const {
  core::RequestId id;
  {
    absl::MutexLock lock(&keys_mu_);
    const auto it = keys_.find({tenant, key});
    if (it == keys_.end()) return nullptr;
    id = it->second;
  }
  return Find(id);
}

// True when it was there and lived.
bool RequestStore::Erase(const RequestStream& stream) {
  const auto& facts = stream.facts();
  if (!facts.idempotency_key.empty()) {
    absl::MutexLock lock(&keys_mu_);
    const auto it = keys_.find({facts.tenant, facts.idempotency_key});
    if (it != keys_.end() && it->second == facts.id) keys_.erase(it);
  }
  Shard& shard = ShardOf(facts.id);
  absl::MutexLock lock(&shard.mu);
  const auto it = shard.entries.find(facts.id);
  if (it == shard.entries.end()) return false;
  const bool lived = !it->second.retired;
  shard.entries.erase(it);
  return lived;
}

void RequestStore::Remove(const RequestStream& stream) {
  if (Erase(stream)) living_.fetch_sub(1, std::memory_order_relaxed);
}

void RequestStore::Retire(const std::shared_ptr<RequestStream>& stream, core::Instant now) {
  {
    Shard& shard = ShardOf(stream->facts().id);
    absl::MutexLock lock(&shard.mu);
    const auto it = shard.entries.find(stream->facts().id);
    if (it == shard.entries.end() || it->second.retired) return;
    it->second.retired = true;
  }
  living_.fetch_sub(1, std::memory_order_relaxed);
  {
    absl::MutexLock lock(&retired_mu_);
    const size_t bytes = stream->bytes();
    retired_.push_back({now + limits_.retention, bytes, stream});
    retired_bytes_ += bytes;
  }
  Expire(now);
}

void RequestStore::Expire(core::Instant now) {
  absl::MutexLock lock(&retired_mu_);
  while (!retired_.empty() && (retired_.front().until <= now || retired_bytes_ > limits_.ended_bytes)) {
    retired_bytes_ -= retired_.front().bytes;
    Erase(*retired_.front().stream);
    retired_.pop_front();
  }
}

std::vector<std::shared_ptr<RequestStream>> RequestStore::Living() const {
  std::vector<std::shared_ptr<RequestStream>> living;
  for (const Shard& shard : shards_) {
    absl::MutexLock lock(&shard.mu);
    for (const auto& [id, entry] : shard.entries) {
      if (!entry.retired) living.push_back(entry.stream);
    }
  }
  std::sort(living.begin(), living.end(), [](const auto& a, const auto& b) { return a->facts().id < b->facts().id; });
  return living;
}

}  // namespace tandem::scheduler
