// Between the core's words and the store's rows: what a step wants kept becomes one batch, and what the store held
// becomes the first events of the next run.
//
// For the core's thread. Wall time is read here and nowhere near the core: deadlines are kept as times of day and go
// back as what is left of them.
#ifndef TANDEM_SCHEDULER_INTENT_KEEPER_H_
#define TANDEM_SCHEDULER_INTENT_KEEPER_H_

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "scheduler/core/action.h"
#include "scheduler/core/event.h"
#include "scheduler/operations.h"
#include "scheduler/store/store.h"

namespace tandem::scheduler {

class IntentKeeper {
 public:
  // Takes the batches, in order; in the service the store's thread, which never loses one.
  using Hand = std::function<void(store::Batch)>;
  IntentKeeper(Hand hand, Operations* operations, const store::Snapshot& snapshot);

  void Keep(const core::KeepDevice& action);
  void Keep(const core::ForgetDevice& action);
  // Returns the seconds since the drain was asked for, where that is known.
  std::optional<double> Keep(const core::KeepDrain& action);
  // Opens the operation that the core asks for. Nobody waits for its word, so it is written with the step that asked.
  core::DrainRequested Ask(const core::AskDrain& action);
  // An operation other than a drain was carried out.
  void Finished(core::OperationId operation);
  // Hands over what the step wanted kept: all of it or nothing.
  void EndOfStep();

 private:
  const Hand hand_;
  Operations* const operations_;
  std::map<std::string, store::Device> devices_;  // as kept last: a wish keeps the time that it is of
  store::Batch batch_;
};

// The word for an OnDeadline in a row.
std::string OnDeadlineWord(core::OnDeadline on_deadline);

// An operation that was written and not decided, as events to be posted again.
struct Unfinished {
  core::OperationId operation;
  std::vector<core::Event> events;
  bool drain = false;  // the core says how it ended; any other is done when the core has seen its events
};
// What a new run begins with. `wall_now` is the time of day.
struct Recollection {
  core::LeaderStarted started;
  std::vector<Unfinished> unfinished;  // in the order of asking
};
Recollection Recall(const store::Snapshot& snapshot, uint64_t leader_epoch, int expected_devices, absl::Time wall_now);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_INTENT_KEEPER_H_
