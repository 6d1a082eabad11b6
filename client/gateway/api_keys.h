// Who may ask, and as which tenant.
//
// Keys come from flags or variables, all of them of the tenant without a name, and from a file that gives each key a
// tenant's name:
//
//   # a comment
//   retrieval:sk-3f0c...
//   agents:sk-91aa...
//   agents:sk-77d2...                       another key of the same tenant, so that the first can be given up
//   oncall:sk-0c55... highest_priority=10   its requests may go before others'
//
// Who has a key of the file asks at the priority of everybody (0) or lower, unless its line says more. Keys by flags
// are the operator's own, and whoever runs without keys has one tenant: those are not bounded.
//
// The file is looked at once a second while requests come, and read again when it has changed: keys are rotated without
// a restart. One that cannot be read, or is wrong, changes nothing: the keys that were good stay good, and the log says
// why. Keys are kept as digests and never printed.
//
// Any thread.
#ifndef TANDEM_CLIENT_GATEWAY_API_KEYS_H_
#define TANDEM_CLIENT_GATEWAY_API_KEYS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/gateway/caller.h"

namespace tandem::gateway {

inline constexpr size_t kMostKeys = 4096;         // of one file
inline constexpr size_t kLongestTenantName = 64;  // the scheduler's limit too

class ApiKeys {
 public:
  using Digest = std::array<unsigned char, 32>;  // SHA-256
  using Callers = std::map<Digest, Caller>;

  // `file`: empty for none.
  ApiKeys(const std::vector<std::string>& keys, std::string file);

  // Reads the file for the first time; its mistakes are errors here.
  absl::Status Load();

  // Without any key everybody may ask.
  bool required() const { return !file_.empty() || !given_.empty(); }
  size_t size() const;

  // Whose key it is; nothing for what is no key.
  std::optional<Caller> CallerOf(absl::string_view key, absl::Time now);

  static absl::StatusOr<Callers> Parse(absl::string_view text);

 private:
  // What changes when a file is written or put in another's place.
  struct Stamp {
    uint64_t device = 0, inode = 0, size = 0;
    int64_t modified_ns = 0;
    bool operator==(const Stamp&) const = default;
  };
  absl::StatusOr<Stamp> Look() const;
  absl::StatusOr<Callers> Read() const;
  void ReadIfChanged(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::string file_;
  Callers given_;  // by flags or variables
  mutable absl::Mutex mu_;
  Callers listed_ ABSL_GUARDED_BY(mu_);  // by the file
  std::optional<Stamp> stamp_ ABSL_GUARDED_BY(mu_);
  absl::Time next_look_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
};

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_API_KEYS_H_
