#include "scheduler/security/authorizer.h"

#include <glog/logging.h>
#include <grpcpp/security/auth_context.h>

#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tandem::scheduler {
namespace {

constexpr absl::string_view kScheme = "Bearer ";
constexpr int kLogEverySeconds = 1;  // whoever tries many tokens fills no disk

}  // namespace

absl::StatusOr<std::unique_ptr<Authorizer>> Authorizer::Open(const config::SecurityConfig& security,
                                                             RequestMetrics* metrics) {
  std::unique_ptr<TokenStore> tokens;
  if (!security.tokens.empty()) {
    auto opened = TokenStore::Open(security.tokens, security.refresh);
    if (!opened.ok()) return opened.status();
    tokens = *std::move(opened);
  }
  return std::unique_ptr<Authorizer>(new Authorizer(security.identities, std::move(tokens), metrics));
}

std::optional<Error> Authorizer::Identify(const grpc::ServerContextBase& context, TokenStore::Bearer* who) {
  const auto& metadata = context.client_metadata();
  if (const auto header = metadata.find("authorization"); header != metadata.end()) {
    absl::string_view token(header->second.data(), header->second.size());
    if (!absl::StartsWithIgnoreCase(token, kScheme)) {
      return Error{kUnauthenticated, "the authorization of this call is no bearer token"};
    }
    token.remove_prefix(kScheme.size());
    auto bearer = tokens_ == nullptr ? std::nullopt : tokens_->Find(token);
    if (!bearer) return Error{kUnauthenticated, "the token of this call is not known here"};
    *who = *std::move(bearer);
    return std::nullopt;
  }
  const auto connection = context.auth_context();
  const auto names = connection == nullptr ? std::vector<grpc::string_ref>() : connection->GetPeerIdentity();
  if (names.empty()) {
    return Error{kUnauthenticated, tokens_ == nullptr
                                       ? "this call needs a client certificate (--cert and --key)"
                                       : "this call needs a bearer token (--token-file, TANDEM_TOKEN) or a client "
                                         "certificate that has a role"};
  }
  for (const grpc::string_ref& name : names) {
    const absl::string_view text(name.data(), name.size());
    const security::RoleSet roles = security::RolesOf(rules_, text);
    if (roles.empty() && !who->name.empty()) continue;
    if (who->name.empty() || who->roles.empty()) who->name = std::string(text);
    who->roles = who->roles | roles;
  }
  return std::nullopt;
}

std::optional<Error> Authorizer::Check(const grpc::ServerContextBase& context, const char* method,
                                       security::RoleSet needed) {
  TokenStore::Bearer who;
  std::optional<Error> error = Identify(context, &who);
  if (!error && who.roles.Meets(needed)) return std::nullopt;
  if (!error) {
    error = Error{kPermissionDenied,
                  who.roles.empty() ? absl::StrCat("\"", who.name, "\" has no role; security.identities has no rule ",
                                                   "for a name of its certificate")
                                    : absl::StrCat("\"", who.name, "\" is ", who.roles.ToString(" and "), "; ", method,
                                                   " is for ", needed.ToString(" or ")),
                  {},
                  {{"identity", who.name}, {"needs", needed.ToString()}}};
  }
  metrics_->Refused(error->kind.reason);
  LOG_EVERY_T(WARNING, kLogEverySeconds) << "refused " << method << " to " << context.peer() << ": " << error->message;
  return error;
}

}  // namespace tandem::scheduler
