// The bearers of tokens, as the file has them now: read again when it has changed, at most once in `refresh`.
//
// A file that can not be read, or not as a whole, changes nothing: who had access keeps it, and the log says why. Any
// thread.
#ifndef TANDEM_SCHEDULER_SECURITY_TOKEN_STORE_H_
#define TANDEM_SCHEDULER_SECURITY_TOKEN_STORE_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/security/role.h"

namespace tandem::scheduler {

class TokenStore {
 public:
  struct Bearer {
    std::string name;
    security::RoleSet roles;
  };

  static absl::StatusOr<std::unique_ptr<TokenStore>> Open(const std::string& file, absl::Duration refresh);
  ~TokenStore();

  std::optional<Bearer> Find(absl::string_view token);

 private:
  struct Table;

  TokenStore(std::string file, absl::Duration refresh);
  absl::Status Read() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Look() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::string file_;
  const absl::Duration refresh_;
  absl::Mutex mu_;
  std::shared_ptr<const Table> table_ ABSL_GUARDED_BY(mu_);
  std::string text_ ABSL_GUARDED_BY(mu_);  // a digest of what was read last, to tell a change by
  absl::Time looked_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_SECURITY_TOKEN_STORE_H_
