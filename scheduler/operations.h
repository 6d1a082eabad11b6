// What operators asked for: which call is which, who follows it, how it ended.
//
// An operation is opened by the first call with its idempotency key, written to the store before it is done, and
// followed by as many calls as like. A later call with the same key joins it, or hears how it ended; with another
// request it is refused. Leaving a call changes nothing: an operation belongs to the core, and to the store until it
// has ended, so a call can come back after the scheduler was restarted.
//
// Any thread may call. A sink is called under the lock: it stores and posts, and calls nothing here.
#ifndef TANDEM_SCHEDULER_OPERATIONS_H_
#define TANDEM_SCHEDULER_OPERATIONS_H_

#include <grpcpp/support/status.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "scheduler/core/action.h"
#include "scheduler/store/store.h"

namespace tandem::scheduler {

class Operations {
 public:
  // Of those that the last run left, the unfinished ones go on here.
  Operations(uint64_t leader_epoch, const store::Snapshot& snapshot);

  struct Opened {
    enum class How { kFresh, kKnown, kOtherRequest };
    How how = How::kFresh;
    core::OperationId id;
    std::vector<std::string> devices;  // of a known one, by name; empty while they are not resolved
  };
  // `key` may be empty: then every call is fresh. `request`: a hash of all that was asked.
  Opened Open(const std::string& verb, const std::string& key, const std::string& request);

  // Every report from now on, and the latest at once; the last one is `done`, or has a status that is not OK.
  using Sink = std::function<void(const core::ReportDrain&, const grpc::Status&)>;
  using SinkId = uint64_t;
  SinkId Follow(core::OperationId id, Sink sink);
  void Leave(core::OperationId id, SinkId sink);

  // What is to be written before it is done; fills in what Open knows and keeps the rest.
  store::Operation Describe(core::OperationId id, store::Operation row);
  // It came to nothing: its followers hear why, and its key is free again.
  void Withdraw(core::OperationId id, const grpc::Status& why);

  // The last report of a drain comes behind the KeepDrain that says how it ended.
  void Report(const core::ReportDrain& report);
  // Returns the row as it is now to be kept; nothing where it is not known.
  std::optional<store::Operation> Update(const core::KeepDrain& keep);
  // One that is done at once, as all but drains are.
  std::optional<store::Operation> Finish(core::OperationId id);

 private:
  struct Entry {
    store::Operation row;
    std::optional<core::ReportDrain> latest;
    std::map<SinkId, Sink> sinks;
  };
  void Forget(uint64_t id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Trim() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);  // as the store does

  const uint64_t leader_epoch_;
  absl::Mutex mu_;
  uint32_t last_ ABSL_GUARDED_BY(mu_) = 0;
  SinkId last_sink_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<uint64_t, Entry> entries_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, uint64_t> keys_ ABSL_GUARDED_BY(mu_);
  int ended_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_OPERATIONS_H_
