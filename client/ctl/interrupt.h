// Calls a function, on a thread of its own, when the user presses Ctrl-C or the process is told to end.
//
// One at a time in a process. After as many signals as are wanted the next has its usual effect, so that a program that
// hangs can still be ended.
#ifndef TANDEM_CLIENT_CTL_INTERRUPT_H_
#define TANDEM_CLIENT_CTL_INTERRUPT_H_

#include <atomic>
#include <functional>
#include <thread>

namespace tandem::client::ctl {

class OnInterrupt {
 public:
  explicit OnInterrupt(std::function<void()> function, int times = 1);
  // Waits for a function that runs; afterwards the signals have their usual effect again.
  ~OnInterrupt();
  OnInterrupt(const OnInterrupt&) = delete;

  bool happened() const { return happened_; }

 private:
  std::function<void()> function_;
  std::atomic<bool> happened_ = false;
  int pipe_[2];
  std::thread thread_;
};

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_INTERRUPT_H_
