// Which worker process speaks on which stream, and under which id the core knows it.
//
// A stream waits here from its Hello until the core admits or refuses the process. A process that dials again
// supersedes its earlier stream: that one's end is then nobody's news. Any thread may call.
#ifndef TANDEM_SCHEDULER_WORKER_REGISTRY_H_
#define TANDEM_SCHEDULER_WORKER_REGISTRY_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "scheduler/core/types.h"
#include "tandem/v1/worker.pb.h"

namespace tandem::scheduler {

// The near end of one Attach stream.
class WorkerLink {
 public:
  virtual ~WorkerLink() = default;
  // Puts `command` into the bounded outbound queue. When it is full the worker does not read: the stream is closed, and
  // the worker dials again and says what it holds.
  virtual void Send(v1::AttachResponse command) = 0;
  // The core took the process in: Welcome goes out, and what it says from now on is heard.
  virtual void Admit(core::DeviceId device) = 0;
  // Ends the stream with this sentence. A second call does nothing.
  virtual void Close(const absl::Status& why) = 0;

  virtual core::Incarnation incarnation() const = 0;
  virtual const v1::Hello& hello() const = 0;
};

class WorkerRegistry {
 public:
  // After Hello, before the core heard of it.
  void Enter(std::shared_ptr<WorkerLink> link);
  // The core's answer. Null: the stream has ended meanwhile.
  std::shared_ptr<WorkerLink> Admit(core::DeviceId device, core::Incarnation incarnation);
  std::shared_ptr<WorkerLink> Find(core::DeviceId device) const;
  std::shared_ptr<WorkerLink> Find(core::Incarnation incarnation) const;
  // Nothing unless the core has admitted it.
  std::optional<core::DeviceId> DeviceOf(core::Incarnation incarnation) const;
  // The stream has ended. True when it was its process's current one, which the core has to hear; `device` is set when
  // the core had admitted it.
  bool Leave(const WorkerLink& link, std::optional<core::DeviceId>* device);

  std::vector<std::shared_ptr<WorkerLink>> All() const;

 private:
  struct Entry {
    std::shared_ptr<WorkerLink> link;
    std::optional<core::DeviceId> device;
  };

  mutable absl::Mutex mu_;
  std::map<core::Incarnation, Entry> entries_ ABSL_GUARDED_BY(mu_);
  std::map<core::DeviceId, core::Incarnation> devices_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_WORKER_REGISTRY_H_
