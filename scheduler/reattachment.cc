#include "scheduler/reattachment.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "scheduler/ids.h"

namespace tandem::scheduler {

void Reattachment::OnHello(const v1::Hello& hello) {
  absl::MutexLock lock(&mu_);
  if (closed_) return;
  for (const v1::HeldShard& shard : hello.shards()) {
    for (const v1::HeldRequest& held : shard.requests()) {
      const auto id = RequestIdFromBytes(held.key().request_id());
      if (id && held.key().attempt().leader() < leader_epoch_ && !store_->Find(*id)) announced_.insert(*id);
    }
  }
}

void Reattachment::OnFound(const std::shared_ptr<RequestStream>& stream) {
  std::vector<Waiter> found, hopeless;
  {
    absl::MutexLock lock(&mu_);
    announced_.erase(stream->facts().id);
    const auto end = std::stable_partition(waiters_.begin(), waiters_.end(),
                                           [&](const Waiter& waiter) { return !Means(waiter.which, *stream); });
    found.assign(std::make_move_iterator(end), std::make_move_iterator(waiters_.end()));
    waiters_.erase(end, waiters_.end());
    hopeless = TakeHopeless();
  }
  for (const Waiter& waiter : found) waiter.then(stream);
  TellHopeless(std::move(hopeless));
}

void Reattachment::OnGivenUp(core::RequestId id) {
  std::vector<Waiter> hopeless;
  {
    absl::MutexLock lock(&mu_);
    announced_.erase(id);
    hopeless = TakeHopeless();
  }
  TellHopeless(std::move(hopeless));
}

void Reattachment::OnSettled() {
  std::vector<Waiter> hopeless;
  {
    absl::MutexLock lock(&mu_);
    settled_ = true;
    hopeless = TakeHopeless();
  }
  TellHopeless(std::move(hopeless));
}

void Reattachment::Close() {
  std::vector<Waiter> hopeless;
  {
    absl::MutexLock lock(&mu_);
    closed_ = true;
    announced_.clear();
    hopeless = TakeHopeless();
  }
  TellHopeless(std::move(hopeless));
}

void Reattachment::Await(Which which, Then then) {
  std::shared_ptr<RequestStream> stream;
  {
    // Under the lock: what comes into the store after this look finds the waiter.
    absl::MutexLock lock(&mu_);
    stream = Find(which);
    if (!stream && MayCome(which)) {
      waiters_.push_back({std::move(which), std::move(then)});
      return;
    }
  }
  then(std::move(stream));
}

std::shared_ptr<RequestStream> Reattachment::Find(const Which& which) const {
  auto stream = which.id ? store_->Find(*which.id) : store_->FindByKey(which.tenant, which.key);
  return stream && Means(which, *stream) ? stream : nullptr;
}

bool Reattachment::Means(const Which& which, const RequestStream& stream) {
  const auto& facts = stream.facts();
  if (facts.tenant != which.tenant) return false;  // a request of another tenant is not there
  return which.id ? facts.id == *which.id : !which.key.empty() && facts.idempotency_key == which.key;
}

bool Reattachment::MayCome(const Which& which) const {
  if (closed_) return false;
  return !settled_ || (which.id ? announced_.contains(*which.id) : !announced_.empty());
}

std::vector<Reattachment::Waiter> Reattachment::TakeHopeless() {
  const auto end = std::stable_partition(waiters_.begin(), waiters_.end(),
                                         [&](const Waiter& waiter) { return MayCome(waiter.which); });
  std::vector<Waiter> hopeless(std::make_move_iterator(end), std::make_move_iterator(waiters_.end()));
  waiters_.erase(end, waiters_.end());
  return hopeless;
}

void Reattachment::TellHopeless(std::vector<Waiter> waiters) {
  for (const Waiter& waiter : waiters) waiter.then(nullptr);
}

}  // namespace tandem::scheduler
