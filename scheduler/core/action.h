// Everything that the core can ask for, in the imperative. The shell carries actions out in the order given and decides
// nothing; it may drop one only when its addressee is gone.
#ifndef TANDEM_SCHEDULER_CORE_ACTION_H_
#define TANDEM_SCHEDULER_CORE_ACTION_H_

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "scheduler/core/types.h"

namespace tandem::core {

// ---- to workers ---------------------------------------------------------------------------------------------------

// Answers WorkerAttached: under which id the core knows the device from now on. Always before other actions to it.
struct AdmitWorker {
  DeviceId device;
  Incarnation incarnation;
};
// The stream is closed with this sentence. A second process for one device, for one.
struct RefuseWorker {
  std::string device_name;
  Incarnation incarnation;
  std::string why;
};
// To every member. The shell draws the secret and looks up the endpoints.
struct FormGroup {
  GroupId group;
  GroupEpoch epoch;
  ModelId model;
  std::vector<DeviceId> members;  // in rank order
  Duration deadline;
};
// To every member, once all have formed.
struct LoadModel {
  GroupId group;
  GroupEpoch epoch;
  ModelId model;
  std::vector<DeviceId> members;
  Bytes kv_min, kv_target;  // per rank
  Duration deadline;
};
struct DissolveGroup {
  GroupId group;
  GroupEpoch epoch;
  std::vector<DeviceId> members;
};
struct AbortGroup {
  GroupId group;
  GroupEpoch epoch;
  std::vector<DeviceId> members;
  std::string why;
};
// To both ends, `a` as rank 0. They meet, exchange some messages, and one of them says how fast it went. The shell
// draws the secret and looks up the endpoints.
struct MeasureLink {
  uint64_t probe = 0;
  DeviceId a, b;
  Duration deadline;
};
// Close the worker's stream: it is taken for frozen or lost. It may come back as it likes.
struct DropWorker {
  DeviceId device;
  Incarnation incarnation;
  std::string why;
};
// A drained device without groups: its worker gives back all that it holds of the device by becoming a new process,
// which attaches as parked.
struct ParkWorker {
  DeviceId device;
  Incarnation incarnation;
};

// To rank 0 of the group. The shell adds the payload that it keeps under the request's id.
struct AssignRequest {
  RequestId request;
  Attempt attempt;
  GroupId group;
  GroupEpoch epoch;
  DeviceId rank0;
  Tokens max_tokens;  // resolved against the context
  Instant deadline = kNever;
};
struct AbortAttempt {
  RequestId request;
  Attempt attempt;
  GroupId group;
  GroupEpoch epoch;
  DeviceId rank0;
  std::string why;
};

// ---- to clients and operators -------------------------------------------------------------------------------------

// The request waits; `why` is for Progress and explain.
struct NoteQueued {
  RequestId request;
  std::string why;
};
// The last word on a request that did not finish. After it the core has forgotten its payload's owner.
struct FailRequest {
  RequestId request;
  Reason reason = Reason::kNone;
  std::string message;
  std::optional<Duration> retry_after;
};
// The last word on a request that finished: its resources are free. The router has told the client already.
struct CompleteRequest {
  RequestId request;
  Tokens output;
};
struct ReportDrain {
  OperationId operation;
  std::string message;
  int requests_left = 0;
  Duration deadline_left;
  bool overdue = false;
  bool done = false;
  Reason refused = Reason::kNone;  // with done: nothing was drained, for this reason
};

// By the device's health it should be drained. The shell opens an operation for it as for an operator's, and comes back
// with DrainRequested.
struct AskDrain {
  DeviceId device;
  std::string name;  // as KeepDevice has it
  std::string reason;
  Duration deadline;
};

// ---- to the store -------------------------------------------------------------------------------------------------

// What must be known of a device after a restart has changed. The rows of one step are kept together or not at all.
struct KeepDevice {
  KnownDevice device;
};
// It did not come back after a start and nobody wants anything of it: no later start waits for it.
struct ForgetDevice {
  std::string name;
};
enum class DrainOutcome { kRunning, kDone, kUndone, kRefused };
// A drain was accepted, has lost a device to undrain, or has ended.
struct KeepDrain {
  OperationId operation;
  DrainOutcome outcome = DrainOutcome::kRunning;
  std::vector<std::string> devices;  // that it still takes, while it runs
  int requests_at_start = 0;
  Reason refused = Reason::kNone;
  std::string message;
};

// A change worth telling: goes to the event log, the journal and WatchEvents. `subject` is a resource name.
struct Tell {
  std::string subject;
  std::string text;
};

using Action = std::variant<AdmitWorker, RefuseWorker, FormGroup, LoadModel, DissolveGroup, AbortGroup, MeasureLink,
                            DropWorker, AssignRequest, AbortAttempt, NoteQueued, FailRequest, CompleteRequest,
                            ReportDrain, Tell, KeepDevice, ForgetDevice, KeepDrain, ParkWorker, AskDrain>;
using Actions = std::vector<Action>;

}  // namespace tandem::core

#endif  // TANDEM_SCHEDULER_CORE_ACTION_H_
