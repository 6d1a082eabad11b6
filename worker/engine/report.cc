#include "worker/engine/report.h"

namespace tandem::worker {

absl::string_view Name(FailureReason reason) {
  switch (reason) {
    case FailureReason::kBootstrap:
      return "BOOTSTRAP";
    case FailureReason::kModelUnusable:
      return "MODEL_UNUSABLE";
    case FailureReason::kModelMismatch:
      return "MODEL_MISMATCH";
    case FailureReason::kNeverFits:
      return "NEVER_FITS";
    case FailureReason::kNoCapacity:
      return "NO_CAPACITY";
    case FailureReason::kPeerLost:
      return "PEER_LOST";
    case FailureReason::kCommunicator:
      return "COMMUNICATOR";
    case FailureReason::kEngineFault:
      return "ENGINE_FAULT";
    case FailureReason::kAborted:
      return "ABORTED";
    case FailureReason::kStaleEpoch:
      return "STALE_EPOCH";
    case FailureReason::kBusy:
      return "BUSY";
  }
  return "UNKNOWN";
}

GroupFailure LoadFailure(const absl::Status& status) {
  FailureReason reason = FailureReason::kModelUnusable;
  switch (status.code()) {
    case absl::StatusCode::kFailedPrecondition:
      reason = FailureReason::kModelMismatch;
      break;
    case absl::StatusCode::kOutOfRange:
      reason = FailureReason::kNeverFits;
      break;
    case absl::StatusCode::kResourceExhausted:
      reason = FailureReason::kNoCapacity;
      break;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kAborted:
      return StepFailure(status);
    default:
      break;
  }
  return {.reason = reason, .message = std::string(status.message())};
}

GroupFailure StepFailure(const absl::Status& status) {
  FailureReason reason = FailureReason::kEngineFault;
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      reason = FailureReason::kPeerLost;
      break;
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kDeadlineExceeded:
      reason = FailureReason::kCommunicator;
      break;
    default:
      break;
  }
  return {.reason = reason, .message = std::string(status.message())};
}

}  // namespace tandem::worker
