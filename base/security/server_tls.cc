#include "base/security/server_tls.h"

#include <glog/logging.h>
#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/security/openssl_objects.h"
#include "base/security/pem_files.h"
#include "base/security/secret_file.h"

namespace tandem::security {
namespace {

// Of TLS 1.2; those of 1.3 are all of this kind.
constexpr char kCiphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20";
constexpr unsigned char kProtocol[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
constexpr unsigned char kSessions[] = "tandem";  // sessions with client certificates need a name to be resumed under

// What OpenSSL has to say of its last failure, once.
absl::Status Failed(absl::string_view what) {
  const char* why = ERR_reason_error_string(ERR_peek_last_error());
  absl::Status status = absl::InvalidArgumentError(absl::StrCat(what, ": ", why == nullptr ? "not usable" : why));
  ERR_clear_error();
  return status;
}

// Whoever offers protocols and not ours is told so in the handshake.
int ChooseProtocol(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* offered,
                   unsigned int offered_size, void*) {
  unsigned char* chosen = nullptr;
  const int found = SSL_select_next_proto(&chosen, out_size, kProtocol, sizeof(kProtocol), offered, offered_size);
  *out = chosen;
  return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

absl::Status UsePair(SSL_CTX* context, const std::string& certificate, const std::string& key) {
  const Bio chain = Over(certificate);
  const Certificate own(PEM_read_bio_X509_AUX(chain.get(), nullptr, NoPassword, nullptr));
  if (own == nullptr || SSL_CTX_use_certificate(context, own.get()) != 1) return Failed("certificate");
  while (X509* next = PEM_read_bio_X509(chain.get(), nullptr, NoPassword, nullptr)) {
    if (SSL_CTX_add0_chain_cert(context, next) == 1) continue;
    X509_free(next);
    return Failed("the certificate's chain");
  }
  ERR_clear_error();  // the end of the file
  const Key pair(PEM_read_bio_PrivateKey(Over(key).get(), nullptr, NoPassword, nullptr));
  if (pair == nullptr || SSL_CTX_use_PrivateKey(context, pair.get()) != 1) return Failed("key");
  if (SSL_CTX_check_private_key(context) != 1) return Failed("key");
  return absl::OkStatus();
}

absl::Time EndOf(const X509* certificate) {
  int days = 0, seconds = 0;
  ASN1_TIME_diff(&days, &seconds, nullptr, X509_get0_notAfter(certificate));
  return absl::Now() + absl::Hours(24) * days + absl::Seconds(seconds);
}

absl::Status AskForCertificates(SSL_CTX* context, const std::string& authorities, bool required) {
  const Bio file = Over(authorities);
  while (const Certificate one{PEM_read_bio_X509(file.get(), nullptr, NoPassword, nullptr)}) {
    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(context), one.get()) != 1) return Failed("client_ca");
    if (SSL_CTX_add_client_CA(context, one.get()) != 1) return Failed("client_ca");
  }
  ERR_clear_error();
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), nullptr);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ServerTls>> ServerTls::Open(const DoorSettings& door, absl::Duration refresh,
                                                           std::vector<std::string>* warnings) {
  std::unique_ptr<ServerTls> tls(new ServerTls(door, refresh));
  if (absl::Status status = CheckDoorFiles(door, absl::Now(), warnings); !status.ok()) return status;
  const auto files = tls->ReadFiles();
  if (!files.ok()) return files.status();
  {
    absl::MutexLock lock(&tls->taking_);
    if (absl::Status status = tls->Take(*files); !status.ok()) return status;
  }
  tls->thread_ = std::thread([self = tls.get()] { self->Run(); });
  return tls;
}

ServerTls::~ServerTls() {
  stop_.Notify();
  if (thread_.joinable()) thread_.join();
}

std::shared_ptr<ssl_ctx_st> ServerTls::Context() const {
  absl::MutexLock lock(&mu_);
  return context_;
}

absl::Time ServerTls::ends() const {
  absl::MutexLock lock(&mu_);
  return ends_;
}

absl::StatusOr<ServerTls::Files> ServerTls::ReadFiles() const {
  Files files;
  for (const auto& [what, path, text] :
       {std::tuple("certificate", &door_.certificate, &files.certificate), std::tuple("key", &door_.key, &files.key),
        std::tuple("client_ca", &door_.client_ca, &files.client_ca)}) {
    if (path->empty()) continue;
    auto read = ReadBounded(what, *path);
    if (!read.ok()) return read.status();
    *text = *std::move(read);
  }
  return files;
}

// Of what was read, not of the files, which may be others by now: a certificate and its key are taken together.
absl::Status ServerTls::Take(const Files& files) {
  std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  CHECK(context != nullptr) << "OpenSSL has no memory for a context";
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_alpn_select_cb(context.get(), ChooseProtocol, nullptr);
  SSL_CTX_set_session_id_context(context.get(), kSessions, sizeof(kSessions) - 1);
  if (SSL_CTX_set_cipher_list(context.get(), kCiphers) != 1) return Failed("ciphers");
  if (absl::Status status = UsePair(context.get(), files.certificate, files.key); !status.ok()) return status;
  if (door_.client_certificates == "optional" || door_.client_certificates == "required") {
    const bool required = door_.client_certificates == "required";
    if (absl::Status status = AskForCertificates(context.get(), files.client_ca, required); !status.ok()) return status;
  }
  taken_ = files;
  absl::MutexLock lock(&mu_);
  ends_ = EndOf(SSL_CTX_get0_certificate(context.get()));
  context_ = std::move(context);
  return absl::OkStatus();
}

absl::Status ServerTls::Refresh() {
  absl::MutexLock taking(&taking_);
  const auto files = ReadFiles();
  if (!files.ok()) return files.status();
  if (*files == taken_) return absl::OkStatus();
  std::vector<std::string> warnings;
  if (absl::Status status = CheckDoorFiles(door_, absl::Now(), &warnings); !status.ok()) return status;
  if (absl::Status status = Take(*files); !status.ok()) return status;
  for (const std::string& warning : warnings) LOG(WARNING) << warning;
  LOG(INFO) << "certificate " << door_.certificate << " is renewed; it ends at " << absl::FormatTime(ends());
  return absl::OkStatus();
}

void ServerTls::Run() {
  std::string said;
  while (!stop_.WaitFor(refresh_)) {
    const absl::Status status = Refresh();
    if (!status.ok() && status.message() != said) {
      LOG(WARNING) << status.message() << "; the certificate that was read before stays in use until "
                   << absl::FormatTime(ends());
    }
    said = std::string(status.message());
  }
}

}  // namespace tandem::security
