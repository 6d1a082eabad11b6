// Whether a thread comes round: it is asked, and how long it has owed the answer is how long it may have been stuck.
// Time is that of the steady clock, so that a clock which is set does no harm.
#ifndef TANDEM_BASE_NOTIFY_PULSE_H_
#define TANDEM_BASE_NOTIFY_PULSE_H_

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

namespace tandem {

class Pulse {
 public:
  // Gets to the thread in question a closure, which is to run there and may be run after the Pulse is gone.
  using Ask = std::function<void(std::function<void()> answer)>;

  explicit Pulse(Ask ask) : ask_(std::move(ask)), owed_(std::make_shared<Owed>()) {}

  // For how long an answer has been owed; zero: the last one came. Then, unless one is owed, asks anew. `answered` is
  // called on the thread in question. Any thread.
  std::chrono::microseconds Take(std::function<void()> answered = nullptr) {
    const auto now = std::chrono::steady_clock::now();
    {
      std::lock_guard lock(owed_->mu);
      if (owed_->since) return std::chrono::duration_cast<std::chrono::microseconds>(now - *owed_->since);
      owed_->since = now;
    }
    ask_([owed = owed_, answered = std::move(answered)] {
      {
        std::lock_guard lock(owed->mu);
        owed->since.reset();
      }
      if (answered) answered();
    });
    return std::chrono::microseconds(0);
  }

 private:
  struct Owed {
    std::mutex mu;
    std::optional<std::chrono::steady_clock::time_point> since;  // guarded by mu
  };

  const Ask ask_;
  const std::shared_ptr<Owed> owed_;
};

}  // namespace tandem

#endif  // TANDEM_BASE_NOTIFY_PULSE_H_
