#include "scheduler/security/server_credentials.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <algorithm>

namespace tandem::scheduler {

std::shared_ptr<grpc::ServerCredentials> CredentialsOf(const security::DoorSettings& door, absl::Duration refresh) {
  namespace tls = grpc::experimental;
  if (!door.encrypted()) return grpc::InsecureServerCredentials();
  const auto seconds = static_cast<unsigned>(std::max<int64_t>(1, absl::ToInt64Seconds(refresh)));
  const bool asks = door.client_certificates != "off";
  tls::TlsServerCredentialsOptions options(
      asks ? std::make_shared<tls::FileWatcherCertificateProvider>(door.key, door.certificate, door.client_ca, seconds)
           : std::make_shared<tls::FileWatcherCertificateProvider>(door.key, door.certificate, seconds));
  options.watch_identity_key_cert_pairs();
  if (asks) options.watch_root_certs();
  // Whoever sends a certificate, asked or obliged to, sends one that our CA signed.
  options.set_cert_request_type(!asks ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                : door.client_certificates == "required"
                                    ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                    : GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY);
  return tls::TlsServerCredentials(options);
}

}  // namespace tandem::scheduler
