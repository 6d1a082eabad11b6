// The gateway's own numbers, in Prometheus' text format. Any thread; one lock, held for a few additions.
//
// Labels come from fixed sets (routes, codes, reasons of errors) and from the names of tenants in the file of keys, so
// that no client can grow them; of tenants that come and go there are kMostTenants, further ones are counted as
// "other".
#ifndef TANDEM_CLIENT_GATEWAY_METRICS_H_
#define TANDEM_CLIENT_GATEWAY_METRICS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace tandem::gateway {

class Metrics {
 public:
  explicit Metrics(std::string version) : version_(std::move(version)) {}

  // `tenant`: empty for the one without a name.
  void OnRequest(absl::string_view route, const std::string& tenant, int status, absl::Duration took);
  void OnFirstToken(absl::string_view route, absl::Duration after);
  void OnClientGone(absl::string_view route);
  // A stream whose 200 has been sent ends with an error. `reason`: its code, or empty.
  void OnStreamFailed(absl::string_view route, absl::string_view reason);
  // `reason`: of client/gateway/handshake.h.
  void OnHandshakeFailed(absl::string_view reason);
  void OnTokens(const std::string& tenant, uint64_t prompt, uint64_t completion);

  // Asked for by each Text(): when the certificate that is shown now ends. Unset: plain HTTP. Before any thread.
  std::function<absl::Time()> certificate_ends;

  // Moved by their owners.
  std::atomic<int64_t> connections = 0;
  std::atomic<int64_t> requests_running = 0;
  std::atomic<int64_t> streams_open = 0;

  std::string Text() const;

 private:
  struct Histogram {
    std::array<uint64_t, 23> counts{};  // of each bucket alone; the last one is +Inf
    double sum = 0;
    void Add(absl::Duration value);
  };
  struct Account {
    std::map<int, uint64_t> requests;  // by status
    uint64_t prompt_tokens = 0, completion_tokens = 0;
  };
  static constexpr size_t kMostTenants = 1024;
  Account& AccountOf(const std::string& tenant) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AppendTenants(std::string* out) const ABSL_SHARED_LOCKS_REQUIRED(mu_);
  static void AppendHistogram(absl::string_view name, const std::map<std::string, Histogram>& by_route,
                              std::string* out);

  const std::string version_;
  mutable absl::Mutex mu_;
  std::map<std::pair<std::string, int>, uint64_t> requests_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, Histogram> durations_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, Histogram> first_tokens_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, uint64_t> gone_ ABSL_GUARDED_BY(mu_);
  std::map<std::pair<std::string, std::string>, uint64_t> failed_streams_ ABSL_GUARDED_BY(mu_);  // by route, reason
  std::map<std::string, uint64_t> failed_handshakes_ ABSL_GUARDED_BY(mu_);                       // by reason
  uint64_t prompt_tokens_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t completion_tokens_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<std::string, Account> tenants_ ABSL_GUARDED_BY(mu_);  // with a name
};

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_METRICS_H_
