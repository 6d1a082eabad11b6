#include "tests/sim/attach_stream.h"

#include <utility>

namespace tandem::sim {

AttachStream::AttachStream(World* world, int64_t delay_us, core::Incarnation incarnation, WorkerEnd worker,
                           SchedulerEnd scheduler)
    : world_(world),
      delay_us_(delay_us),
      incarnation_(incarnation),
      worker_(std::move(worker)),
      scheduler_(std::move(scheduler)),
      up_(std::make_shared<Lane>(world, delay_us)),
      down_(std::make_shared<Lane>(world, delay_us)),
      tokens_(std::make_shared<Lane>(world, delay_us)) {}

// ---- the worker's side ----------------------------------------------------------------------------------------------

void AttachStream::Open(v1::Hello hello) {
  up_->Send([self = shared_from_this(), hello = std::move(hello)] {
    if (!self->scheduler_open_) return;
    self->hello_ = hello;
    self->entered_ = true;
    self->scheduler_.hello(self);
  });
}

void AttachStream::SendUp(v1::AttachRequest message) {
  up_->Send([self = shared_from_this(), message = std::move(message)] { self->Arrive(message); });
}

void AttachStream::SendTokens(v1::TokensRequest message) {
  tokens_->Send([self = shared_from_this(), message = std::move(message)] {
    if (self->scheduler_open_) self->scheduler_.tokens(message);
  });
}

void AttachStream::RenewTokens() {
  tokens_ = std::make_shared<Lane>(world_, delay_us_);
  if (up_blocked_) tokens_->Block();
}

void AttachStream::CloseByWorker() {
  worker_open_ = false;
  up_->Send([self = shared_from_this()] { self->EndAtScheduler(); });
}

// ---- what happens to it ---------------------------------------------------------------------------------------------

void AttachStream::Break() {
  up_->Cut();
  down_->Cut();
  tokens_->Cut();
  world_->After(world_->random().Below(200 * kMs), [self = shared_from_this()] { self->EndAtScheduler(); });
  world_->After(world_->random().Below(200 * kMs),
                [self = shared_from_this()] { self->EndAtWorker(absl::UnavailableError("the stream broke")); });
}

void AttachStream::Block(bool up, bool down) {
  if (up) {
    up_blocked_ = true;
    up_->Block();
    tokens_->Block();
  }
  if (down) down_->Block();
}

void AttachStream::Unblock() {
  up_blocked_ = false;
  // Who is told may end the stream, and with it the last that holds it.
  auto self = shared_from_this();
  up_->Unblock();
  tokens_->Unblock();
  down_->Unblock();
}

void AttachStream::VanishScheduler() {
  scheduler_open_ = false;
  up_->Cut();
  tokens_->Cut();
  down_->Send([self = shared_from_this()] { self->EndAtWorker(absl::UnavailableError("the scheduler is gone")); });
}

void AttachStream::EndAtWorker(const absl::Status& why) {
  if (std::exchange(worker_open_, false)) worker_.over(why);
}

// ---- the scheduler's side -------------------------------------------------------------------------------------------

void AttachStream::Send(v1::AttachResponse command) {
  if (!scheduler_open_) return;
  down_->Send([self = shared_from_this(), command = std::move(command)] {
    if (self->worker_open_) self->worker_.command(command);
  });
}

void AttachStream::Admit(core::DeviceId device) {
  device_ = device;
  v1::AttachResponse response;
  *response.mutable_welcome() = scheduler_.welcome();
  Send(std::move(response));
  admitted_ = true;
  // Not from within the core's step.
  world_->After(0, [self = shared_from_this()] {
    while (!self->unread_.empty() && self->scheduler_open_) {
      const v1::AttachRequest message = std::move(self->unread_.front());
      self->unread_.pop_front();
      self->scheduler_.message(self, message);
    }
  });
}

void AttachStream::Arrive(const v1::AttachRequest& message) {
  if (!scheduler_open_) return;
  if (!admitted_ || !unread_.empty()) {
    unread_.push_back(message);
  } else {
    scheduler_.message(shared_from_this(), message);
  }
}

void AttachStream::Close(const absl::Status& why) {
  if (!scheduler_open_) return;
  absl::Status said = why.ok() ? absl::UnavailableError("the scheduler closed the stream") : why;
  down_->Send([self = shared_from_this(), said] { self->EndAtWorker(said); });
  world_->After(0, [self = shared_from_this()] { self->EndAtScheduler(); });
}

void AttachStream::EndAtScheduler() {
  if (!std::exchange(scheduler_open_, false)) return;
  if (entered_) scheduler_.over(*this);
}

}  // namespace tandem::sim
