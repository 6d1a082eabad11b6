// Counts the calls that a door has answered, by method and code, whatever service they belong to.
//
// One is made for each call by gRPC, which owns it and asks it at the call's steps; no two steps at a time.
#ifndef TANDEM_SCHEDULER_CALL_COUNTER_H_
#define TANDEM_SCHEDULER_CALL_COUNTER_H_

#include <grpcpp/support/server_interceptor.h>

#include "scheduler/request_metrics.h"

namespace tandem::scheduler {

class CallCounterFactory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  // `metrics` outlives the server.
  explicit CallCounterFactory(RequestMetrics* metrics) : metrics_(metrics) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(grpc::experimental::ServerRpcInfo* info) override;

 private:
  RequestMetrics* const metrics_;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_CALL_COUNTER_H_
