#include "worker/engine/shard_window.h"

namespace tandem::worker {

std::vector<ShardStatus> ShardWindow::Status() const {
  std::lock_guard lock(mu_);
  if (!view_) return {};
  ShardStatus status = view_->status;
  status.progress = view_->progress != nullptr ? view_->progress->load() : 0;
  status.busy = view_->busy->load();
  return {status};
}

std::vector<HeldRequest> ShardWindow::Held(const GroupRef& group) const {
  std::shared_ptr<RequestLog> log;
  {
    std::lock_guard lock(mu_);
    if (view_ && view_->status.group == group) log = view_->log;
  }
  return log ? log->Held() : std::vector<HeldRequest>();
}

void ShardWindow::Open(const Shard& shard) {
  std::lock_guard lock(mu_);
  view_ = {.status = {.group = shard.ref(), .rank = shard.rank(), .size = shard.identity().size},
           .busy = &shard.busy()};
}

void ShardWindow::ShowModel(const Shard& shard) {
  std::lock_guard lock(mu_);
  view_->status.model = shard.spec().model;
  view_->status.revision = shard.executor().facts().revision;
  view_->status.deployment = shard.spec().deployment;
  view_->status.numerics_id = shard.facts().numerics_id;
  view_->status.kv_blocks = shard.kv_blocks();
  view_->progress = &shard.executor().progress();
}

void ShardWindow::ShowReady(const Leader* leader) {
  std::lock_guard lock(mu_);
  view_->status.ready = true;
  if (leader != nullptr) view_->log = leader->log();
}

void ShardWindow::Refresh(const Shard& shard, const Leader* leader) {
  std::lock_guard lock(mu_);
  view_->status.steps = shard.steps();
  if (leader != nullptr) leader->FillStatus(view_->status);
}

void ShardWindow::Close() {
  std::lock_guard lock(mu_);
  view_.reset();
}

}  // namespace tandem::worker
