// OpenSSL's objects with an owner each, for those that read PEM.
#ifndef TANDEM_BASE_SECURITY_OPENSSL_OBJECTS_H_
#define TANDEM_BASE_SECURITY_OPENSSL_OBJECTS_H_

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <memory>
#include <string>

namespace tandem::security {

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Bio = std::unique_ptr<BIO, Freer<BIO_free>>;
using Certificate = std::unique_ptr<X509, Freer<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;

// Reads `text`, which must outlive it.
inline Bio Over(const std::string& text) { return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))); }

// A key with a password has none here: nobody is there to be asked.
inline int NoPassword(char*, int, int, void*) { return 0; }

}  // namespace tandem::security

#endif  // TANDEM_BASE_SECURITY_OPENSSL_OBJECTS_H_
