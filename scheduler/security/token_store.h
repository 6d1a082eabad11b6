// The bearers of tokens, as the file had them when Refresh() looked last.
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
#include "base/security/identity_rules.h"

namespace tandem::scheduler {

class TokenStore {
 public:
  struct Bearer {
    std::string name;
    security::Grant grant;
  };

  static absl::StatusOr<std::unique_ptr<TokenStore>> Open(const std::string& file);
  ~TokenStore();

  // Takes what the file has now.
  void Refresh();

  std::optional<Bearer> Find(absl::string_view token) const;
  // Of all tokens of this name together; none where it has none.
  security::RoleSet RolesOf(absl::string_view name) const;

 private:
  struct Table;

  explicit TokenStore(std::string file);
  absl::Status Read() ABSL_EXCLUSIVE_LOCKS_REQUIRED(reading_);
  std::shared_ptr<const Table> table() const;

  const std::string file_;
  absl::Mutex reading_;                         // held over the file, so never while a call waits for an answer
  std::string text_ ABSL_GUARDED_BY(reading_);  // a digest of what was read last, to tell a change by
  mutable absl::Mutex mu_;
  std::shared_ptr<const Table> table_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_SECURITY_TOKEN_STORE_H_
