// How a request's caller knows it: what its metadata says of it, so that one request can be followed from the caller's
// log through the gateway's and the scheduler's to `explain`.
#ifndef TANDEM_SCHEDULER_CALLER_IDS_H_
#define TANDEM_SCHEDULER_CALLER_IDS_H_

#include <grpcpp/support/string_ref.h>

#include <map>
#include <string>

namespace tandem::scheduler {

struct CallerIds {
  std::string id;     // x-request-id: 1 to 128 visible ASCII characters without quotes; empty: none, or no such id
  std::string trace;  // of traceparent: 32 hex digits; empty: none, or malformed
};

CallerIds ReadCallerIds(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata);
// The same as a worker kept them with a request: what could not have been read from a call is left out.
CallerIds CheckedCallerIds(const std::string& id, const std::string& trace);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_CALLER_IDS_H_
