// Who calls, and whether he may: a bearer token or a client certificate makes an identity, an identity has roles, a
// method needs one of them (access_rules.h).
//
// A token speaks for its bearer whatever certificate the connection has, so that a gateway with a certificate can act
// in a role of its own. Streams are checked when they open: one that runs ends by itself, not with its token. Any
// thread; nothing here logs or answers with a token.
#ifndef TANDEM_SCHEDULER_SECURITY_AUTHORIZER_H_
#define TANDEM_SCHEDULER_SECURITY_AUTHORIZER_H_

#include <grpcpp/server_context.h>

#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "base/security/identity_rules.h"
#include "base/security/role.h"
#include "config/cluster_config.h"
#include "scheduler/grpc_error.h"
#include "scheduler/request_metrics.h"
#include "scheduler/security/token_store.h"

namespace tandem::scheduler {

class Authorizer {
 public:
  // `metrics` outlives it. INVALID_ARGUMENT where the token file is none.
  static absl::StatusOr<std::unique_ptr<Authorizer>> Open(const config::SecurityConfig& security,
                                                          RequestMetrics* metrics);

  // UNAUTHENTICATED where nobody known calls, PERMISSION_DENIED where his roles are others; none: he may.
  std::optional<Error> Check(const grpc::ServerContextBase& context, const char* method, security::RoleSet needed);

 private:
  Authorizer(std::vector<security::IdentityRule> rules, std::unique_ptr<TokenStore> tokens, RequestMetrics* metrics)
      : rules_(std::move(rules)), tokens_(std::move(tokens)), metrics_(metrics) {}

  // An identity, or why there is none.
  std::optional<Error> Identify(const grpc::ServerContextBase& context, TokenStore::Bearer* who);

  const std::vector<security::IdentityRule> rules_;
  const std::unique_ptr<TokenStore> tokens_;  // null: certificates alone
  RequestMetrics* const metrics_;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_SECURITY_AUTHORIZER_H_
