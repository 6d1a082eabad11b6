#include "scheduler/security/guarded_services.h"

#include "scheduler/security/access_rules.h"

namespace tandem::scheduler {
namespace {

using Context = grpc::CallbackServerContext;
using Unary = grpc::ServerUnaryReactor;

Unary* Refuse(Context* context, const Error& error) {
  Unary* const reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(error));
  return reactor;
}

// A stream that ends before it begins.
template <typename Reactor>
class Refused final : public Reactor {
 public:
  explicit Refused(const Error& error) { this->Finish(ToGrpc(error)); }
  void OnDone() override { delete this; }
};

// NOLINTBEGIN(bugprone-macro-parentheses): they make names and types
#define TANDEM_UNARY_AS(Service, Method, Messages)                                                                   \
  Unary* Method(Context* context, const v1::Messages##Request* request, v1::Messages##Response* response) override { \
    constexpr security::RoleSet kNeeded = RolesFor(#Service "/" #Method);                                            \
    const auto error = authorizer_->Check(*context, #Service "/" #Method, kNeeded);                                  \
    return error ? Refuse(context, *error) : inner_->Method(context, request, response);                             \
  }
#define TANDEM_UNARY(Service, Method) TANDEM_UNARY_AS(Service, Method, Method)
// Of calls that are served by who calls.
#define TANDEM_ADMITTED_UNARY(Service, Method)                                                                   \
  Unary* Method(Context* context, const v1::Method##Request* request, v1::Method##Response* response) override { \
    constexpr security::RoleSet kNeeded = RolesFor(#Service "/" #Method);                                        \
    Admission admission;                                                                                         \
    const auto error = authorizer_->Check(*context, #Service "/" #Method, kNeeded, &admission);                  \
    return error ? Refuse(context, *error) : inner_->Method(context, request, response, admission);              \
  }
#define TANDEM_ADMITTED_STREAM(Service, Method)                                                                \
  grpc::ServerWriteReactor<v1::Method##Response>* Method(Context* context, const v1::Method##Request* request) \
      override {                                                                                               \
    constexpr security::RoleSet kNeeded = RolesFor(#Service "/" #Method);                                      \
    Admission admission;                                                                                       \
    const auto error = authorizer_->Check(*context, #Service "/" #Method, kNeeded, &admission);                \
    if (error) return new Refused<grpc::ServerWriteReactor<v1::Method##Response>>(*error);                     \
    return inner_->Method(context, request, admission);                                                        \
  }
#define TANDEM_STREAM(Service, Method)                                                                         \
  grpc::ServerWriteReactor<v1::Method##Response>* Method(Context* context, const v1::Method##Request* request) \
      override {                                                                                               \
    constexpr security::RoleSet kNeeded = RolesFor(#Service "/" #Method);                                      \
    const auto error = authorizer_->Check(*context, #Service "/" #Method, kNeeded);                            \
    if (error) return new Refused<grpc::ServerWriteReactor<v1::Method##Response>>(*error);                     \
    return inner_->Method(context, request);                                                                   \
  }
// NOLINTEND(bugprone-macro-parentheses)

template <typename Service, typename Inner = Service>
class Guard : public Service {
 public:
  Guard(Inner* inner, Authorizer* authorizer) : inner_(inner), authorizer_(authorizer) {}

 protected:
  Inner* const inner_;
  Authorizer* const authorizer_;
};

class GuardedInference final : public Guard<v1::InferenceService::CallbackService, InferenceService> {
 public:
  using Guard::Guard;

  TANDEM_ADMITTED_STREAM(InferenceService, Generate)
  TANDEM_ADMITTED_STREAM(InferenceService, Resume)
  TANDEM_UNARY(InferenceService, Abort)
  TANDEM_ADMITTED_UNARY(InferenceService, Embed)
  TANDEM_ADMITTED_UNARY(InferenceService, Rerank)
  TANDEM_UNARY(InferenceService, Tokenize)
  TANDEM_UNARY(InferenceService, Detokenize)
  TANDEM_UNARY(InferenceService, ListModels)
  TANDEM_UNARY(InferenceService, GetMetrics)
};

class GuardedWorkers final : public Guard<v1::WorkerService::CallbackService> {
 public:
  using Guard::Guard;

  using AttachReactor = grpc::ServerBidiReactor<v1::AttachRequest, v1::AttachResponse>;
  AttachReactor* Attach(Context* context) override {
    constexpr security::RoleSet kNeeded = RolesFor("WorkerService/Attach");
    const auto error = authorizer_->Check(*context, "WorkerService/Attach", kNeeded);
    return error ? new Refused<AttachReactor>(*error) : inner_->Attach(context);
  }
  using TokensReactor = grpc::ServerReadReactor<v1::TokensRequest>;
  TokensReactor* Tokens(Context* context, v1::TokensResponse* response) override {
    constexpr security::RoleSet kNeeded = RolesFor("WorkerService/Tokens");
    const auto error = authorizer_->Check(*context, "WorkerService/Tokens", kNeeded);
    return error ? new Refused<TokensReactor>(*error) : inner_->Tokens(context, response);
  }
};

class GuardedAdmin final : public Guard<v1::AdminService::CallbackService, AdminService> {
 public:
  using Guard::Guard;

  TANDEM_UNARY(AdminService, GetStatus)
  TANDEM_UNARY(AdminService, ListNodes)
  TANDEM_UNARY(AdminService, ListDevices)
  TANDEM_UNARY(AdminService, GetDevice)
  TANDEM_UNARY(AdminService, ListGroups)
  TANDEM_UNARY(AdminService, GetGroup)
  TANDEM_UNARY_AS(AdminService, ListModels, AdminServiceListModels)
  TANDEM_UNARY(AdminService, GetModel)
  TANDEM_UNARY(AdminService, ListRequests)
  TANDEM_UNARY(AdminService, GetRequest)
  TANDEM_UNARY(AdminService, ExplainRequest)
  TANDEM_UNARY(AdminService, ExplainGroup)
  TANDEM_UNARY(AdminService, ExplainModel)
  TANDEM_UNARY(AdminService, GetTopology)
  TANDEM_ADMITTED_STREAM(AdminService, WatchEvents)
  TANDEM_UNARY(AdminService, CordonDevice)
  TANDEM_UNARY(AdminService, UncordonDevice)
  TANDEM_UNARY(AdminService, CordonNode)
  TANDEM_UNARY(AdminService, UncordonNode)
  TANDEM_STREAM(AdminService, DrainDevice)
  TANDEM_STREAM(AdminService, DrainNode)
  TANDEM_STREAM(AdminService, DrainGroup)
  TANDEM_UNARY(AdminService, UndrainDevice)
  TANDEM_UNARY(AdminService, UndrainNode)
  TANDEM_UNARY(AdminService, DeployModel)
  TANDEM_UNARY(AdminService, UndeployModel)
  TANDEM_UNARY(AdminService, ScaleModel)
};

#undef TANDEM_ADMITTED_STREAM
#undef TANDEM_ADMITTED_UNARY
#undef TANDEM_STREAM
#undef TANDEM_UNARY
#undef TANDEM_UNARY_AS

}  // namespace

std::unique_ptr<grpc::Service> Guarded(InferenceService* inner, Authorizer* authorizer) {
  return std::make_unique<GuardedInference>(inner, authorizer);
}
std::unique_ptr<grpc::Service> Guarded(v1::WorkerService::CallbackService* inner, Authorizer* authorizer) {
  return std::make_unique<GuardedWorkers>(inner, authorizer);
}
std::unique_ptr<grpc::Service> Guarded(AdminService* inner, Authorizer* authorizer) {
  return std::make_unique<GuardedAdmin>(inner, authorizer);
}

}  // namespace tandem::scheduler
