// What a caller is told when something is refused or fails: the table of reasons, and its shape on the wire.
//
// Every failure is a gRPC status with one sentence, and in grpc-status-details-bin a google.rpc.Status that carries an
// ErrorInfo{reason, domain "tandem"} and, where trying again may help, a RetryInfo. Never inside a message.
#ifndef TANDEM_SCHEDULER_GRPC_ERROR_H_
#define TANDEM_SCHEDULER_GRPC_ERROR_H_

#include <grpcpp/support/status.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "scheduler/core/types.h"

namespace tandem::scheduler {

// Two kinds with one reason are one kind.
struct ErrorKind {
  const char* reason;  // stable; programs match on it
  grpc::StatusCode code;
  bool retry;  // carries a RetryInfo
  friend bool operator==(const ErrorKind& a, const ErrorKind& b) { return std::string_view(a.reason) == b.reason; }
};

inline constexpr ErrorKind kInvalidParameter{"INVALID_PARAMETER", grpc::StatusCode::INVALID_ARGUMENT, false};
inline constexpr ErrorKind kUnsupportedParameter{"UNSUPPORTED_PARAMETER", grpc::StatusCode::INVALID_ARGUMENT, false};
inline constexpr ErrorKind kContextLengthExceeded{"CONTEXT_LENGTH_EXCEEDED", grpc::StatusCode::INVALID_ARGUMENT, false};
inline constexpr ErrorKind kUnauthenticated{"UNAUTHENTICATED", grpc::StatusCode::UNAUTHENTICATED, false};
inline constexpr ErrorKind kPermissionDenied{"PERMISSION_DENIED", grpc::StatusCode::PERMISSION_DENIED, false};
inline constexpr ErrorKind kModelNotFound{"MODEL_NOT_FOUND", grpc::StatusCode::NOT_FOUND, false};
inline constexpr ErrorKind kResumeUnknown{"RESUME_UNKNOWN", grpc::StatusCode::NOT_FOUND, false};
inline constexpr ErrorKind kNotFound{"NOT_FOUND", grpc::StatusCode::NOT_FOUND, false};
inline constexpr ErrorKind kTenantLimit{"TENANT_LIMIT", grpc::StatusCode::RESOURCE_EXHAUSTED, true};
inline constexpr ErrorKind kQueueFull{"QUEUE_FULL", grpc::StatusCode::UNAVAILABLE, true};
inline constexpr ErrorKind kDraining{"DRAINING", grpc::StatusCode::UNAVAILABLE, true};
inline constexpr ErrorKind kNoCapacity{"NO_CAPACITY", grpc::StatusCode::UNAVAILABLE, true};
inline constexpr ErrorKind kModelLoading{"MODEL_LOADING", grpc::StatusCode::UNAVAILABLE, true};
inline constexpr ErrorKind kDrainAborted{"DRAIN_ABORTED", grpc::StatusCode::UNAVAILABLE, true};
inline constexpr ErrorKind kWorkerLost{"WORKER_LOST", grpc::StatusCode::UNAVAILABLE, true};
inline constexpr ErrorKind kDeadlineUnreachable{"DEADLINE_UNREACHABLE", grpc::StatusCode::DEADLINE_EXCEEDED, false};
inline constexpr ErrorKind kDeadlineExceeded{"DEADLINE_EXCEEDED", grpc::StatusCode::DEADLINE_EXCEEDED, false};
inline constexpr ErrorKind kEngineFault{"ENGINE_FAULT", grpc::StatusCode::INTERNAL, false};
inline constexpr ErrorKind kWouldLoseLastReplica{"WOULD_LOSE_LAST_REPLICA", grpc::StatusCode::FAILED_PRECONDITION,
                                                 false};
inline constexpr ErrorKind kNeverFits{"NEVER_FITS", grpc::StatusCode::FAILED_PRECONDITION, false};
inline constexpr ErrorKind kModelMismatch{"MODEL_MISMATCH", grpc::StatusCode::FAILED_PRECONDITION, false};
inline constexpr ErrorKind kModelUnusable{"MODEL_UNUSABLE", grpc::StatusCode::FAILED_PRECONDITION, false};
inline constexpr ErrorKind kCancelled{"CANCELLED", grpc::StatusCode::CANCELLED, false};
inline constexpr ErrorKind kStoreUnavailable{"STORE_UNAVAILABLE", grpc::StatusCode::UNAVAILABLE, true};
inline constexpr ErrorKind kEtagMismatch{"ETAG_MISMATCH", grpc::StatusCode::ABORTED, false};
inline constexpr ErrorKind kNotServed{"UNIMPLEMENTED", grpc::StatusCode::UNIMPLEMENTED, false};

// The row of a reason that the core gave. kNone has none: asking is our own fault.
const ErrorKind& KindOf(core::Reason reason);

struct Error {
  ErrorKind kind;
  std::string message;                             // one sentence: what was asked, what there was, what to do
  std::optional<core::Duration> retry_after = {};  // unset: 1 s where the kind has a RetryInfo
  std::vector<std::pair<std::string, std::string>> metadata = {};  // of ErrorInfo: the numbers, for programs
};

grpc::Status ToGrpc(const Error& error);

// What more than one door says.
Error TooMuchAtHand();
Error ShuttingDown();
Error ClientLeft();

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_GRPC_ERROR_H_
