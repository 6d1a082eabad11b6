// Says READY=1, and from then on WATCHDOG=1 whenever the thread that matters has come round: a process whose helpers
// run while its own work stands still is not alive. A thread of its own asks, and only where somebody watches; it ends
// with this object. What `ask` uses must outlive it.
#ifndef TANDEM_BASE_NOTIFY_LIFE_SIGNS_H_
#define TANDEM_BASE_NOTIFY_LIFE_SIGNS_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "base/notify/notifier.h"
#include "base/notify/pulse.h"

namespace tandem {

class LifeSigns {
 public:
  LifeSigns(std::shared_ptr<const Notifier> notifier, Pulse::Ask ask);
  ~LifeSigns();

 private:
  void Run();

  const std::shared_ptr<const Notifier> notifier_;
  Pulse pulse_;
  std::mutex mu_;
  std::condition_variable changed_;
  bool ends_ = false;  // guarded by mu_
  std::thread thread_;
};

}  // namespace tandem

#endif  // TANDEM_BASE_NOTIFY_LIFE_SIGNS_H_
