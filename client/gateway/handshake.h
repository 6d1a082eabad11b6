// Why a TLS handshake with a client came to nothing, in words for the log and a label for the metrics.
#ifndef TANDEM_CLIENT_GATEWAY_HANDSHAKE_H_
#define TANDEM_CLIENT_GATEWAY_HANDSHAKE_H_

#include <boost/system/error_code.hpp>
#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace tandem::gateway {

struct HandshakeFailure {
  std::string reason;  // plain_http, protocol, client_certificate, distrust, timeout, left, other
  std::string said;    // a sentence without its subject, the client; empty where nobody has to know

  bool plain_http() const { return reason == "plain_http"; }
};

// `certificate_refused`: the client has shown one that is not ours.
HandshakeFailure WhyHandshakeFailed(boost::system::error_code error, bool certificate_refused);
HandshakeFailure HandshakeTooSlow();

// Failures as lines of the log, at most one of each reason a second, so that nobody fills a disk by failing. Any
// thread.
class HandshakeLog {
 public:
  void Say(const HandshakeFailure& failure, const std::string& peer, absl::Time now);

 private:
  absl::Mutex mu_;
  std::map<std::string, absl::Time> said_ ABSL_GUARDED_BY(mu_);  // by reason, when last
};

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_HANDSHAKE_H_
