#include "client/silence_watch.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace tandem::client {

void SilenceWatch::Waits() {
  absl::MutexLock lock(&mu_);
  since_ = std::chrono::steady_clock::now();
  if (alarm_ != nullptr && !std::exchange(set_, true)) Set(most_);
}

void SilenceWatch::Heard() {
  absl::MutexLock lock(&mu_);
  since_.reset();
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

void SilenceWatch::Set(absl::Duration wait) {
  // gRPC makes a wait of it at once: what is done to the wall clock afterwards changes nothing.
  alarm_->Set(absl::ToChronoTime(absl::Now() + wait), [self = shared_from_this()](bool due) {
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
  if (!since_) return Set(most_);
  if (const absl::Duration left = most_ - SteadySince(*since_); left > absl::ZeroDuration()) return Set(left);
  silent_ = true;
  context_->TryCancel();
}

}  // namespace tandem::client
