#include "client/silence_watch.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace tandem::client {

void SilenceWatch::Waits() {
  absl::MutexLock lock(&mu_);
  since_ = absl::Now();
  if (alarm_ != nullptr && !std::exchange(set_, true)) Set(since_ + most_);
}

void SilenceWatch::Heard() {
  absl::MutexLock lock(&mu_);
  since_ = absl::InfiniteFuture();
}

void SilenceWatch::End() {
  std::unique_ptr<grpc::Alarm> done;  // cancels; its callback finds that nothing is left to do
  absl::MutexLock lock(&mu_);
  context_ = nullptr;
  done = std::move(alarm_);
}

absl::Status SilenceWatch::Explain(absl::Status status) const {
  absl::MutexLock lock(&mu_);
  if (!silent_ || status.ok()) return status;
  return absl::UnavailableError(absl::StrCat("nothing was heard from the scheduler for ", absl::FormatDuration(most_)));
}

void SilenceWatch::Set(absl::Time when) {
  alarm_->Set(absl::ToChronoTime(when), [self = shared_from_this()](bool due) {
    if (due) self->OnAlarm();
  });
}

bool SilenceWatch::Running() const {
  absl::MutexLock lock(&mu_);
  return context_ != nullptr;
}

void SilenceWatch::OnAlarm() {
  if (!Running()) return;  // and gRPC may be ending
  auto next = std::make_unique<grpc::Alarm>();
  absl::MutexLock lock(&mu_);
  if (context_ == nullptr) return;
  next.swap(alarm_);  // the one that is done holds this, and goes with `next`
  const absl::Time now = absl::Now();
  if (since_ == absl::InfiniteFuture()) return Set(now + most_);
  if (now < since_ + most_) return Set(since_ + most_);
  silent_ = true;
  context_->TryCancel();
}

}  // namespace tandem::client
