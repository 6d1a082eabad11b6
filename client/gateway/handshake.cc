#include "client/gateway/handshake.h"

#include <glog/logging.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <boost/asio/ssl/error.hpp>

#include "absl/strings/str_cat.h"

namespace tandem::gateway {
namespace {

constexpr absl::Duration kLogEvery = absl::Seconds(1);

}  // namespace

HandshakeFailure WhyHandshakeFailed(boost::system::error_code error, bool certificate_refused) {
  if (certificate_refused) {
    return {"client_certificate", "shows a certificate that security.http.client_ca has not signed, or that has ended"};
  }
  if (error.category() != boost::asio::error::get_ssl_category()) return {"left", ""};  // probes of the port, mostly
  switch (ERR_GET_REASON(static_cast<unsigned long>(error.value()))) {
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
      return {"plain_http", "speaks plain HTTP; this address serves https:// alone"};
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_UNKNOWN_PROTOCOL:
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_APPLICATION_PROTOCOL:
    case SSL_R_INAPPROPRIATE_FALLBACK:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
      return {"protocol", "speaks no TLS 1.2 or later with HTTP/1.1 and a common cipher"};
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      return {"client_certificate", "shows no certificate, and security.http asks for one"};
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
      return {"distrust", "does not trust the certificate that it was shown"};
    default:
      return {"other", absl::StrCat("failed in the TLS handshake: ", error.message())};
  }
}

HandshakeFailure HandshakeTooSlow() { return {"timeout", "did not end the TLS handshake in time"}; }

void HandshakeLog::Say(const HandshakeFailure& failure, const std::string& peer, absl::Time now) {
  if (failure.said.empty()) return;
  {
    absl::MutexLock lock(&mu_);
    const auto [last, first] = said_.try_emplace(failure.reason, now);
    if (!first && now - last->second < kLogEvery) return;
    last->second = now;
  }
  LOG(WARNING) << peer << " " << failure.said;
}

}  // namespace tandem::gateway
