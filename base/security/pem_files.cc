#include "base/security/pem_files.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <ctime>

#include "absl/strings/str_cat.h"
#include "base/security/openssl_objects.h"
#include "base/security/secret_file.h"
#include "base/security/token_file.h"

namespace tandem::security {
namespace {

constexpr absl::Duration kEndsSoon = absl::Hours(14 * 24);

absl::Status Bad(const std::string& what, const std::string& path, absl::string_view why) {
  ERR_clear_error();  // of this thread, which gRPC's handshakes may share
  return absl::InvalidArgumentError(absl::StrCat(what, " ", path, ": ", why));
}

absl::Time FromAsn1(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return absl::InfinitePast();
  return absl::FromTimeT(timegm(&parts));
}

std::string SubjectOf(X509* certificate) {
  const Bio out(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(out.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  return std::string(text, size > 0 ? static_cast<size_t>(size) : 0);
}

absl::StatusOr<Certificate> FirstCertificate(const std::string& what, const std::string& path) {
  const auto text = ReadBounded(what, path);
  if (!text.ok()) return text.status();
  Certificate certificate(PEM_read_bio_X509(Over(*text).get(), nullptr, NoPassword, nullptr));
  if (certificate == nullptr) return Bad(what, path, "no certificate in PEM form");
  return certificate;
}

CertificateFacts FactsOf(X509* certificate) {
  return {SubjectOf(certificate), FromAsn1(X509_get0_notBefore(certificate)),
          FromAsn1(X509_get0_notAfter(certificate))};
}

// A certificate and its key, for either end.
absl::Status CheckPair(const std::string& certificate_path, const std::string& key_path, absl::Time now,
                       std::vector<std::string>* warnings) {
  const auto certificate = FirstCertificate("certificate", certificate_path);
  if (!certificate.ok()) return certificate.status();
  const CertificateFacts facts = FactsOf(certificate->get());
  if (now < facts.not_before) {
    return Bad("certificate", certificate_path, absl::StrCat("not valid before ", absl::FormatTime(facts.not_before)));
  }
  if (now > facts.not_after) {
    return Bad("certificate", certificate_path, absl::StrCat("expired at ", absl::FormatTime(facts.not_after)));
  }
  if (facts.not_after - now < kEndsSoon) {
    warnings->push_back(absl::StrCat("certificate ", certificate_path, " (", facts.subject, ") expires at ",
                                     absl::FormatTime(facts.not_after)));
  }
  const auto text = ReadBounded("key", key_path);
  if (!text.ok()) return text.status();
  const Key key(PEM_read_bio_PrivateKey(Over(*text).get(), nullptr, NoPassword, nullptr));
  if (key == nullptr) return Bad("key", key_path, "no private key in PEM form that needs no password");
  if (X509_check_private_key(certificate->get(), key.get()) != 1) {
    return Bad("key", key_path, absl::StrCat("not the key of certificate ", certificate_path));
  }
  if (std::string loose = LoosePermissions("key", key_path); !loose.empty()) warnings->push_back(std::move(loose));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CertificateFacts> ReadCertificate(const std::string& path) {
  const auto certificate = FirstCertificate("certificate", path);
  if (!certificate.ok()) return certificate.status();
  return FactsOf(certificate->get());
}

absl::Status CheckDoorFiles(const DoorSettings& door, absl::Time now, std::vector<std::string>* warnings) {
  if (!door.encrypted()) return absl::OkStatus();
  if (const absl::Status status = CheckPair(door.certificate, door.key, now, warnings); !status.ok()) return status;
  if (door.client_ca.empty()) return absl::OkStatus();
  return FirstCertificate("client_ca", door.client_ca).status();
}

absl::Status CheckDialFiles(const DialSettings& dial, absl::Time now, std::vector<std::string>* warnings) {
  if (dial.encrypted()) {
    if (const absl::Status status = FirstCertificate("ca", dial.ca).status(); !status.ok()) return status;
    if (!dial.certificate.empty()) {
      if (const absl::Status status = CheckPair(dial.certificate, dial.key, now, warnings); !status.ok()) return status;
    }
  }
  if (dial.token_file.empty()) return absl::OkStatus();
  const auto text = ReadBounded("token file", dial.token_file);
  if (!text.ok()) return text.status();
  std::string loose = LoosePermissions("token file", dial.token_file);
  if (!loose.empty()) warnings->push_back(std::move(loose));
  return ParseOwnToken(*text, dial.token_file).status();
}

}  // namespace tandem::security
