// What all calls that change something have in common: the checks of their Mutation, the hash by which a repeated call
// is told from another one with its key, and what they answer when the store cannot be written.
#ifndef TANDEM_SCHEDULER_MUTATION_H_
#define TANDEM_SCHEDULER_MUTATION_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "scheduler/grpc_error.h"
#include "tandem/v1/admin.pb.h"

namespace tandem::scheduler {

std::optional<Error> CheckMutation(const v1::Mutation& mutation);

// Whether a resource is still what the caller saw: `now` is its etag, `asked` the mutation's; empty asks for nothing.
std::optional<Error> CheckEtag(const std::string& name, const std::string& now, const std::string& asked);
Error HasNoEtag(absl::string_view kind);  // "node", "group"

// 32 hex digits over the kind of request and its bytes. Equal requests have equal bytes: there are no maps in them.
std::string HashRequest(absl::string_view type, const std::string& bytes);
template <typename Request>
std::string RequestHash(Request request) {
  request.mutable_mutation()->clear_idempotency_key();
  return HashRequest(request.GetTypeName(), request.SerializeAsString());
}

Error OtherRequestWithKey(const std::string& key);
// Nothing was changed. The path stays in the log: it is no business of callers.
Error StoreUnavailable(const absl::Status& why);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_MUTATION_H_
