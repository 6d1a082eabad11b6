// Asks a gateway of this machine whether it lives: one GET, one answer, nothing kept.
#ifndef TANDEM_CLIENT_CTL_HTTP_PROBE_H_
#define TANDEM_CLIENT_CTL_HTTP_PROBE_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "config/endpoint.h"

namespace tandem::client::ctl {

enum class HttpDoor {
  kPlain,
  kTls,
  kTlsForCertificates,  // answers only who shows one; that somebody takes the call is all that can be seen
};

// OK when `door` answers /health/live with 200; else UNAVAILABLE with what it did instead. Each wait, of which there
// are a few, takes `patience` at most. Over TLS whoever answers is taken for the gateway, whatever certificate it
// shows: it may be one for a name that this machine does not dial, and nothing is told to it. Blocks.
absl::Status AskLive(const config::Endpoint& door, HttpDoor kind, absl::Duration patience);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_HTTP_PROBE_H_
