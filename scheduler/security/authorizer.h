// Who calls, and whether he may: a bearer token or a client certificate makes an identity, an identity has roles, a
// method needs one of them (access_rules.h).
//
// A token speaks for its bearer whatever certificate the connection has, so that a gateway with a certificate can act
// in a role of its own. Tokens are read again every `refresh`, on a thread of this object, which then puts out the
// streams whose bearer has no token left that would let them in (open_calls.h). Any thread; nothing here logs or
// answers with a token.
#ifndef TANDEM_SCHEDULER_SECURITY_AUTHORIZER_H_
#define TANDEM_SCHEDULER_SECURITY_AUTHORIZER_H_

#include <grpcpp/server_context.h>

#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/security/identity_rules.h"
#include "base/security/role.h"
#include "base/steady_wait.h"
#include "config/cluster_config.h"
#include "scheduler/grpc_error.h"
#include "scheduler/request_metrics.h"
#include "scheduler/security/admission.h"
#include "scheduler/security/token_store.h"

namespace tandem::scheduler {

class Authorizer {
 public:
  // `metrics` outlives it. INVALID_ARGUMENT where the token file is none.
  static absl::StatusOr<std::unique_ptr<Authorizer>> Open(const config::SecurityConfig& security,
                                                          RequestMetrics* metrics);
  ~Authorizer();

  // UNAUTHENTICATED where nobody known calls, PERMISSION_DENIED where his roles are others; none: he may, and
  // `admission`, where it is not null, says as whom.
  std::optional<Error> Check(const grpc::ServerContextBase& context, const char* method, security::RoleSet needed,
                             Admission* admission = nullptr);

 private:
  Authorizer(std::vector<security::IdentityRule> rules, std::unique_ptr<TokenStore> tokens, RequestMetrics* metrics)
      : rules_(std::move(rules)), tokens_(std::move(tokens)), metrics_(metrics) {}

  // An identity, or why there is none. `by_token`: it is a token's.
  std::optional<Error> Identify(const grpc::ServerContextBase& context, TokenStore::Bearer* who, bool* by_token);
  void Run(absl::Duration refresh);

  const std::vector<security::IdentityRule> rules_;
  const std::unique_ptr<TokenStore> tokens_;  // null: certificates alone
  RequestMetrics* const metrics_;
  OpenCalls open_calls_;
  SteadyNotification stop_;
  std::thread thread_;  // where there are tokens
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_SECURITY_AUTHORIZER_H_
