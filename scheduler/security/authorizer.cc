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
    auto opened = TokenStore::Open(security.tokens);
    if (!opened.ok()) return opened.status();
    tokens = *std::move(opened);
  }
  std::unique_ptr<Authorizer> authorizer(new Authorizer(security.identities, std::move(tokens), metrics));
  if (authorizer->tokens_ != nullptr) {
    authorizer->thread_ = std::thread([self = authorizer.get(), refresh = security.refresh] { self->Run(refresh); });
  }
  return authorizer;
}

Authorizer::~Authorizer() {
  stop_.Notify();
  if (thread_.joinable()) thread_.join();
}

void Authorizer::Run(absl::Duration refresh) {
  while (!stop_.WaitFor(refresh)) {
    tokens_->Refresh();
    const size_t ended = open_calls_.Reconsider([this](const OpenCalls::Ticket& ticket) -> std::optional<Error> {
      const security::RoleSet roles = tokens_->RolesOf(ticket.bearer);
      if (roles.Meets(ticket.needed)) return std::nullopt;
      Error error =
          roles.empty()
              ? Error{kUnauthenticated,
                      absl::StrCat("the token of \"", ticket.bearer, "\" has been withdrawn, and this call with it")}
              : Error{kPermissionDenied, absl::StrCat("\"", ticket.bearer, "\" is ", roles.ToString(" and "),
                                                      " now; this call is for ", ticket.needed.ToString(" or "))};
      error.metadata = {{"identity", ticket.bearer}, {"needs", ticket.needed.ToString()}};
      metrics_->Refused(error.kind.reason);
      return error;
    });
    if (ended > 0) LOG(WARNING) << ended << " calls are ended whose bearers have been withdrawn";
  }
}

std::optional<Error> Authorizer::Identify(const grpc::ServerContextBase& context, TokenStore::Bearer* who,
                                          bool* by_token) {
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
    *by_token = true;
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
    const security::Grant grant = security::GrantOf(rules_, text);
    if (grant.roles.empty() && !who->name.empty()) continue;
    if (who->name.empty() || who->grant.roles.empty()) who->name = std::string(text);
    who->grant.Add(grant.roles, grant.highest_priority);
  }
  return std::nullopt;
}

std::optional<Error> Authorizer::Check(const grpc::ServerContextBase& context, const char* method,
                                       security::RoleSet needed, Admission* admission) {
  TokenStore::Bearer who;
  bool by_token = false;
  std::optional<Error> error = Identify(context, &who, &by_token);
  const security::RoleSet roles = who.grant.roles;
  if (!error && roles.Meets(needed)) {
    if (admission != nullptr) {
      admission->highest_priority = who.grant.highest_priority;
      if (by_token) admission->calls = &open_calls_;
      admission->ticket = {std::move(who.name), needed};
    }
    return std::nullopt;
  }
  if (!error) {
    error = Error{kPermissionDenied,
                  roles.empty() ? absl::StrCat("\"", who.name, "\" has no role; security.identities has no rule ",
                                               "for a name of its certificate")
                                : absl::StrCat("\"", who.name, "\" is ", roles.ToString(" and "), "; ", method,
                                               " is for ", needed.ToString(" or ")),
                  {},
                  {{"identity", who.name}, {"needs", needed.ToString()}}};
  }
  metrics_->Refused(error->kind.reason);
  LOG_EVERY_T(WARNING, kLogEverySeconds) << "refused " << method << " to " << context.peer() << ": " << error->message;
  return error;
}

}  // namespace tandem::scheduler
