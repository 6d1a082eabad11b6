#include "scheduler/grpc_error.h"

#include <glog/logging.h>

#include <algorithm>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace tandem::scheduler {
namespace {

// The message travels in a header, and a peer may refuse headers beyond 8 KiB, details included.
constexpr size_t kLongestMessage = 2048;

}  // namespace

const ErrorKind& KindOf(core::Reason reason) {
  switch (reason) {
    case core::Reason::kInvalidParameter:
      return kInvalidParameter;
    case core::Reason::kContextLengthExceeded:
      return kContextLengthExceeded;
    case core::Reason::kModelNotFound:
      return kModelNotFound;
    case core::Reason::kTenantLimit:
      return kTenantLimit;
    case core::Reason::kQueueFull:
      return kQueueFull;
    case core::Reason::kDraining:
      return kDraining;
    case core::Reason::kNoCapacity:
      return kNoCapacity;
    case core::Reason::kModelLoading:
      return kModelLoading;
    case core::Reason::kDrainAborted:
      return kDrainAborted;
    case core::Reason::kWorkerLost:
      return kWorkerLost;
    case core::Reason::kDeadlineUnreachable:
      return kDeadlineUnreachable;
    case core::Reason::kDeadlineExceeded:
      return kDeadlineExceeded;
    case core::Reason::kEngineFault:
      return kEngineFault;
    case core::Reason::kWouldLoseLastReplica:
      return kWouldLoseLastReplica;
    case core::Reason::kNeverFits:
      return kNeverFits;
    case core::Reason::kModelMismatch:
      return kModelMismatch;
    case core::Reason::kModelUnusable:
      return kModelUnusable;
    case core::Reason::kCancelled:
      return kCancelled;
    case core::Reason::kNotFound:
      return kNotFound;
    case core::Reason::kNone:
      break;
  }
  LOG(FATAL) << "no row for reason " << static_cast<int>(reason);
}

grpc::Status ToGrpc(const Error& error) {
  size_t length = std::min(error.message.size(), kLongestMessage);
  // Never half a character: the details are protobuf strings.
  while (length > 0 && length < error.message.size() && (error.message[length] & 0xC0) == 0x80) --length;
  std::string message = error.message.substr(0, length);
  google::rpc::Status details;
  details.set_code(error.kind.code);
  details.set_message(message);

  google::rpc::ErrorInfo info;
  info.set_reason(error.kind.reason);
  info.set_domain("tandem");
  for (const auto& [key, value] : error.metadata) (*info.mutable_metadata())[key] = value;
  details.add_details()->PackFrom(info);

  if (error.kind.retry) {
    const int64_t us = std::max<int64_t>(error.retry_after.value_or(core::Seconds(1)).us, 0);
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(us / 1000000);
    retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(us % 1000000 * 1000));
    details.add_details()->PackFrom(retry);
  }
  return grpc::Status(error.kind.code, std::move(message), details.SerializeAsString());
}

Error TooMuchAtHand() {
  return {kQueueFull, "the scheduler has more requests at hand than it can take in; try again later"};
}

Error ShuttingDown() {
  return {kDraining, "this scheduler is shutting down; try again later or elsewhere", core::Seconds(5)};
}

Error ClientLeft() { return {kCancelled, "the client left"}; }

}  // namespace tandem::scheduler
