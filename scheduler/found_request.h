// A request of an earlier scheduler, as a worker that computes it tells it: what this scheduler makes of Held.
#ifndef TANDEM_SCHEDULER_FOUND_REQUEST_H_
#define TANDEM_SCHEDULER_FOUND_REQUEST_H_

#include <memory>

#include "absl/status/statusor.h"
#include "scheduler/core/event.h"
#include "scheduler/model_catalog.h"
#include "scheduler/request_metrics.h"
#include "scheduler/request_stream.h"
#include "tandem/v1/worker.pb.h"

namespace tandem::scheduler {

struct FoundRequest {
  std::shared_ptr<RequestStream> stream;  // without tokens, which follow; its current attempt is the worker's
  RequestStream::Assignment assignment;
  core::RequestFound event;
};

// `rank0`: the worker that says so. `metrics` counts it while it lives; null: nobody does. An error is one sentence why
// the request cannot be served on: its model is not configured any more, its files have changed, or the message is no
// sound request.
absl::StatusOr<FoundRequest> FoundFrom(const v1::Held& held, core::DeviceId rank0, const ModelCatalog& catalog,
                                       RequestMetrics* metrics, core::Instant now);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_FOUND_REQUEST_H_
