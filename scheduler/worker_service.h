// The door for workers. Attach: one stream per worker process, both ways; Tokens: what rank 0 of a group produces.
//
// Reactors translate, post and return. An Attach reads nothing more between its Hello and the core's answer, so
// whatever a worker says, the core has admitted it before.
#ifndef TANDEM_SCHEDULER_WORKER_SERVICE_H_
#define TANDEM_SCHEDULER_WORKER_SERVICE_H_

#include <functional>
#include <string>

#include "scheduler/core/event.h"
#include "scheduler/event_log.h"
#include "scheduler/reattachment.h"
#include "scheduler/token_router.h"
#include "scheduler/worker_registry.h"
#include "tandem/v1/worker.grpc.pb.h"

namespace tandem::scheduler {

struct WelcomeTerms {
  uint64_t leader_epoch = 0;
  uint32_t heartbeat_ms = 500;
  uint32_t orphan_grace_ms = 60000;
  uint32_t retention_ms = 60000;
};

class WorkerService final : public v1::WorkerService::CallbackService {
 public:
  // `try_post` may refuse when the core is behind; `post_owed` never does.
  struct Doors {
    std::function<bool(core::Event&&)> try_post;
    std::function<void(core::Event)> post_owed;
  };
  WorkerService(WelcomeTerms terms, Doors doors, WorkerRegistry* registry, TokenRouter* router,
                Reattachment* reattachment);

  grpc::ServerBidiReactor<v1::AttachRequest, v1::AttachResponse>* Attach(grpc::CallbackServerContext* context) override;
  grpc::ServerReadReactor<v1::TokensRequest>* Tokens(grpc::CallbackServerContext* context,
                                                     v1::TokensResponse* response) override;

 private:
  class AttachReactor;
  class TokensReactor;

  const WelcomeTerms terms_;
  const Doors doors_;
  WorkerRegistry* const registry_;
  TokenRouter* const router_;
  Reattachment* const reattachment_;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_WORKER_SERVICE_H_
