// What a program tells whoever supervises it, in the protocol of sd_notify(3): datagrams of NAME=VALUE lines to the
// socket that NOTIFY_SOCKET names. systemd understands them, and so does `tandemctl up`. Where there is no such
// socket, nothing is sent. Any thread; a few words are all that it holds.
#ifndef TANDEM_BASE_NOTIFY_NOTIFIER_H_
#define TANDEM_BASE_NOTIFY_NOTIFIER_H_

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace tandem {

// The messages that we send and read. Those with X_ are ours, as the protocol provides.
inline constexpr char kNotifyReady[] = "READY=1";               // it serves, and is watched from now on
inline constexpr char kNotifyAlive[] = "WATCHDOG=1";            // the thread that matters has come round
inline constexpr char kNotifyReloading[] = "RELOADING=1";       // not watched until it is READY again
inline constexpr char kNotifyStopping[] = "STOPPING=1";         // it is about to end
inline constexpr char kNotifyDrained[] = "X_TANDEM_DRAINED=1";  // nothing runs that an end would cut

class Notifier {
 public:
  // By NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID of the environment.
  Notifier();
  ~Notifier();
  Notifier(const Notifier&) = delete;
  Notifier& operator=(const Notifier&) = delete;

  // Waits for room up to two seconds: what is told once should arrive.
  void Tell(absl::string_view message) const;
  // Says kNotifyAlive if there is room at once: another follows.
  void TellAlive() const;

  // Silence that is taken for death; nothing: nobody watches.
  std::optional<std::chrono::microseconds> watchdog() const { return watchdog_; }

 private:
  int fd_ = -1;  // connected; -1: nobody listens
  std::optional<std::chrono::microseconds> watchdog_;
};

}  // namespace tandem

#endif  // TANDEM_BASE_NOTIFY_NOTIFIER_H_
