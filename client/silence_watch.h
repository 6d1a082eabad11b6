// Ends a call whose other end has fallen silent: a scheduler says something at least every 15 s (Progress), so one that
// says nothing for much longer is gone, or what stands between is. Keepalive pings notice a dead line; this also
// notices a line that lives and leads to nobody, as through a proxy.
//
// Counts only while somebody waits for a message: what a caller does not ask for stays with the scheduler, and that is
// no silence. One per call; any thread. Its lock is taken last.
#ifndef TANDEM_CLIENT_SILENCE_WATCH_H_
#define TANDEM_CLIENT_SILENCE_WATCH_H_

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/steady_wait.h"

namespace tandem::client {

class SilenceWatch : public std::enable_shared_from_this<SilenceWatch> {
 public:
  // `most`: how long a wait may take; infinite: for ever.
  SilenceWatch(grpc::ClientContext* context, absl::Duration most) : most_(most), context_(context) {
    if (most_ != absl::InfiniteDuration()) alarm_ = std::make_unique<grpc::Alarm>();
  }

  void Waits();  // a message is waited for from now on
  void Heard();  // it has come, or the call has ended
  void End();    // the context may go afterwards

  // How the call ended, where it was this that ended it. `status` is gRPC's word.
  absl::Status Explain(absl::Status status) const;

 private:
  void Set(absl::Duration wait) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool Running() const;
  void OnAlarm();

  const absl::Duration most_;
  mutable absl::Mutex mu_;
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mu_);     // null: ended
  std::optional<SteadyTime> since_ ABSL_GUARDED_BY(mu_);  // nothing: nobody waits
  bool silent_ ABSL_GUARDED_BY(mu_) = false;
  // One for the whole call, followed by another where it finds that something was heard: a message costs no timer.
  // Never made or destroyed under mu_: gRPC begins and ends with its users, under a lock of its own, and what of
  // alarms is left then runs under that.
  std::unique_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mu_);
  bool set_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace tandem::client

#endif  // TANDEM_CLIENT_SILENCE_WATCH_H_
