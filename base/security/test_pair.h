// For tests: a folder of one's own with keys and certificates that they signed themselves.
#ifndef TANDEM_BASE_SECURITY_TEST_PAIR_H_
#define TANDEM_BASE_SECURITY_TEST_PAIR_H_

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/time/time.h"
#include "base/security/settings.h"

namespace tandem::security {

class TestFolder {
 public:
  TestFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "tandem-pem-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  std::string Path(const std::string& name) const { return path_ + "/" + name; }

  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(Path(name)) << text;
    chmod(Path(name).c_str(), 0600);
    return Path(name);
  }

  // NAME.crt, signed by itself, and NAME.key. From and until in time from now.
  DoorSettings Make(const std::string& name, absl::Duration from = -absl::Hours(24),
                    absl::Duration until = absl::Hours(100 * 24)) const {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* certificate = X509_new();
    X509_set_pubkey(certificate, key);
    X509_gmtime_adj(X509_getm_notBefore(certificate), absl::ToInt64Seconds(from));
    X509_gmtime_adj(X509_getm_notAfter(certificate), absl::ToInt64Seconds(until));
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
    X509_sign(certificate, key, EVP_sha256());
    DoorSettings door{.certificate = Write(name + ".crt", ""), .key = Write(name + ".key", "")};
    std::FILE* out = std::fopen(door.certificate.c_str(), "w");
    PEM_write_X509(out, certificate);
    std::fclose(out);
    out = std::fopen(door.key.c_str(), "w");
    PEM_write_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(out);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return door;
  }

 private:
  std::string path_;
};

}  // namespace tandem::security

#endif  // TANDEM_BASE_SECURITY_TEST_PAIR_H_
