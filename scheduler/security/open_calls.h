// Calls that last and were let in by a bearer's token, so that they end when he is taken out of the token file: a
// stream is checked when it opens, and would run on to its end otherwise.
//
// Bearers are known by their names, so that a token is renewed under the same name without an end of what runs. Any
// thread. A call is in the table from the moment that it begins to last until it is done.
#ifndef TANDEM_SCHEDULER_SECURITY_OPEN_CALLS_H_
#define TANDEM_SCHEDULER_SECURITY_OPEN_CALLS_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "base/security/role.h"
#include "scheduler/grpc_error.h"

namespace tandem::scheduler {

class AdmittedCall {
 public:
  virtual ~AdmittedCall() = default;
  // Ends the call with this error, once the message under way has gone. Does nothing where it has its end already.
  virtual void PutOut(const Error& why) = 0;
  // What keeps this object while PutOut runs. REQUIRES: the call is not done.
  virtual std::shared_ptr<AdmittedCall> KeepAdmitted() = 0;
};

class OpenCalls {
 public:
  struct Ticket {
    std::string bearer;
    security::RoleSet needed;
  };
  // Why a call with this ticket would not be let in now; nothing where it would.
  using Judge = std::function<std::optional<Error>(const Ticket&)>;

  void Enter(AdmittedCall* call, Ticket ticket);
  void Leave(AdmittedCall* call);
  // Puts out whom the judge turns away, and returns how many that are. From time to time.
  size_t Reconsider(const Judge& judge);

 private:
  absl::Mutex mu_;
  absl::flat_hash_map<AdmittedCall*, Ticket> calls_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_SECURITY_OPEN_CALLS_H_
