// A SendingCall is a client's half of a stream that other threads write to: a bounded queue in front of gRPC's "one
// write at a time".
//
// A reactor must not be touched after its OnDone, and operations that start outside its reactions need a hold. The hold
// is taken before the call starts and given back when nothing will be written any more; both under the one lock that
// Send() takes, so a late Send() finds the call closed instead of gone.
//
// Any thread. Kept alive by its own shared_ptr from Launch() to OnDone().
#ifndef TANDEM_WORKER_SENDING_CALL_H_
#define TANDEM_WORKER_SENDING_CALL_H_

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <deque>
#include <iterator>
#include <memory>
#include <mutex>
#include <utility>

namespace tandem::worker {

// Reactor is ClientBidiReactor<Message, ..> or ClientWriteReactor<Message>.
template <typename Reactor, typename Message>
class SendingCall : public Reactor {
 public:
  struct Limits {
    size_t messages = 4096;
    size_t bytes = size_t{64} << 20;
  };

  explicit SendingCall(Limits limits) : limits_(limits) {}

  grpc::ClientContext& context() { return context_; }

  // Queues a message. False if the call is closed; a queue that is full closes it.
  bool Send(Message message) {
    std::lock_guard lock(mu_);
    if (closing_) return false;
    bytes_ += message.ByteSizeLong();
    if (queue_.size() >= limits_.messages || bytes_ > limits_.bytes) {
      CancelLocked();
      return false;
    }
    queue_.push_back(std::move(message));
    WriteNext();
    return true;
  }

  // Begins to write what was queued, `first` before all else. The call itself was bound to this reactor by the caller.
  void Launch(Message first, std::shared_ptr<SendingCall> self) {
    std::lock_guard lock(mu_);
    self_ = std::move(self);
    queue_.push_front(std::move(first));
    launched_ = true;
    this->AddHold();
    held_ = true;
    OnLaunch();
    this->StartCall();
    WriteNext();
    if (closing_ && !writing_) FinishWriting();
  }

  // Sends what is queued and says that nothing more comes.
  void CloseWhenSent() {
    std::lock_guard lock(mu_);
    if (std::exchange(closing_, true)) return;
    if (launched_ && !writing_) FinishWriting();
  }

  void Cancel() {
    std::lock_guard lock(mu_);
    CancelLocked();
  }

  bool closed() const {
    std::lock_guard lock(mu_);
    return closing_;
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard lock(mu_);
    writing_ = false;
    bytes_ -= std::min(bytes_, queue_.front().ByteSizeLong());
    queue_.pop_front();
    if (!ok) {
      closing_ = true;
      queue_.clear();
    }
    WriteNext();
    if (closing_ && !writing_) FinishWriting();
  }

  void OnDone(const grpc::Status& status) override {
    OnEnd(status);
    std::shared_ptr<SendingCall> self;
    {
      std::lock_guard lock(mu_);
      closing_ = true;
      self = std::move(self_);
    }
  }

 protected:
  virtual void OnLaunch() {}  // Before StartCall: the first read, for instance. Holds the lock.
  virtual void OnEnd(const grpc::Status& status) = 0;

  // For reactions that see the other side end: nothing is written any more.
  void StopWriting() {
    std::lock_guard lock(mu_);
    closing_ = true;
    queue_.erase(writing_ && !queue_.empty() ? std::next(queue_.begin()) : queue_.begin(), queue_.end());
    if (launched_ && !writing_) FinishWriting();
  }

 private:
  void WriteNext() {
    if (!launched_ || writing_ || queue_.empty()) return;
    writing_ = true;
    this->StartWrite(&queue_.front());
  }

  void FinishWriting() {
    if (!std::exchange(held_, false)) return;
    this->StartWritesDone();
    this->RemoveHold();
  }

  void CancelLocked() {
    closing_ = true;
    context_.TryCancel();
    if (launched_ && !writing_) FinishWriting();
  }

  const Limits limits_;
  grpc::ClientContext context_;
  mutable std::mutex mu_;
  std::deque<Message> queue_;  // Its front is under way while writing_.
  size_t bytes_ = 0;
  bool launched_ = false;
  bool writing_ = false;
  bool closing_ = false;  // Nothing is taken any more.
  bool held_ = false;
  std::shared_ptr<SendingCall> self_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_SENDING_CALL_H_
