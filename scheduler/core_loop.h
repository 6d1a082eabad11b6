// The one thread that owns the Core.
//
// It takes what waits in the mailbox, reads the clock once per event, writes the event to the journal, steps the core
// and hands the actions to the runner, in this order. Time enters as Ticked when the core's next deadline is reached.
// Others look at the core by posting a closure, which runs between two steps and must be short.
#ifndef TANDEM_SCHEDULER_CORE_LOOP_H_
#define TANDEM_SCHEDULER_CORE_LOOP_H_

#include <functional>
#include <thread>
#include <variant>
#include <vector>

#include "scheduler/core/core.h"
#include "scheduler/mailbox.h"

namespace tandem::scheduler {

class ActionRunner;
class Journal;

class CoreLoop {
 public:
  using Query = std::function<void(const core::Core&)>;

  // `journal` may be null. `runner` and `journal` outlive Stop.
  CoreLoop(const core::CoreOptions& options, ActionRunner* runner, Journal* journal);
  ~CoreLoop();

  void Start();
  // Works off what waits, then ends the thread.
  void Stop();

  // False when the core is behind or stopped: say so to whoever asked, now.
  bool TryPost(core::Event&& event);
  // For ends, cancels and stops; see mailbox.h.
  void PostOwed(core::Event event);
  bool PostQuery(Query query);
  // For what was promised to somebody; see mailbox.h.
  void PostOwedQuery(Query query);

 private:
  using Item = std::variant<core::Event, Query>;

  void Run();
  void Step(const core::Event& event);

  // A burst of this many arrivals is worked off in well under 100 ms; more is overload.
  static constexpr size_t kMailboxItems = 16384;

  core::Core core_;  // of the loop's thread once it runs
  ActionRunner* const runner_;
  Journal* const journal_;
  Mailbox<Item> mailbox_;
  std::thread thread_;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_CORE_LOOP_H_
