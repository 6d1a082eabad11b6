#include "scheduler/call_counter.h"

#include <grpcpp/support/status.h>

namespace tandem::scheduler {
namespace {

class CallCounter final : public grpc::experimental::Interceptor {
 public:
  CallCounter(RequestMetrics* metrics, const char* method) : metrics_(metrics), method_(method) {}
  // A call that ends without a status was cancelled before anybody gave it one.
  ~CallCounter() override { metrics_->Handled(method_, code_); }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(grpc::experimental::InterceptionHookPoints::PRE_SEND_STATUS)) {
      code_ = methods->GetSendStatus().error_code();
    }
    methods->Proceed();
  }

 private:
  RequestMetrics* const metrics_;
  const char* const method_;  // of the service's table of methods, which outlives all calls
  grpc::StatusCode code_ = grpc::StatusCode::CANCELLED;
};

}  // namespace

grpc::experimental::Interceptor* CallCounterFactory::CreateServerInterceptor(grpc::experimental::ServerRpcInfo* info) {
  return new CallCounter(metrics_, info->method());
}

}  // namespace tandem::scheduler
