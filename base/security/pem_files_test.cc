#include "base/security/pem_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace tandem::security {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PemFilesTest : public ::testing::Test {
 protected:
  PemFilesTest() {
    char name[] = "/tmp/pem_files_XXXXXX";
    folder_ = mkdtemp(name);
  }
  ~PemFilesTest() override { std::filesystem::remove_all(folder_); }

  std::string Path(const std::string& name) const { return folder_ + "/" + name; }

  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(Path(name)) << text;
    chmod(Path(name).c_str(), 0600);
    return Path(name);
  }

  // NAME.crt, signed by itself, and NAME.key.
  DoorSettings Make(const std::string& name, absl::Duration from, absl::Duration until) {
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

  std::string Wrong(const DoorSettings& door) {
    return std::string(CheckDoorFiles(door, absl::Now(), &warnings_).message());
  }

  const absl::Duration day_ = absl::Hours(24);
  std::string folder_;
  std::vector<std::string> warnings_;
};

TEST_F(PemFilesTest, APairThatFitsAndIsValidSaysNothing) {
  DoorSettings door = Make("server", -day_, 100 * day_);
  door.client_ca = door.certificate;
  EXPECT_EQ(Wrong(door), "");
  EXPECT_THAT(warnings_, IsEmpty());
  const auto facts = ReadCertificate(door.certificate);
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(facts->subject, "CN=server");
  EXPECT_NEAR(absl::ToDoubleSeconds(facts->not_after - absl::Now()), 100 * 86400, 60);
}

TEST_F(PemFilesTest, WhatIsWrongIsNamedWithItsFile) {
  const DoorSettings good = Make("server", -day_, 100 * day_), other = Make("other", -day_, 100 * day_);
  EXPECT_THAT(Wrong({.certificate = Path("none.crt"), .key = good.key}),
              AllOf(HasSubstr("certificate " + Path("none.crt")), HasSubstr("No such file")));
  EXPECT_THAT(Wrong({.certificate = folder_, .key = good.key}), HasSubstr("not a file"));
  EXPECT_THAT(Wrong({.certificate = Write("text", "hello\n"), .key = good.key}),
              HasSubstr("no certificate in PEM form"));
  EXPECT_THAT(Wrong({.certificate = good.certificate, .key = good.certificate}),
              HasSubstr("no private key in PEM form"));
  EXPECT_THAT(Wrong({.certificate = good.certificate, .key = other.key}),
              HasSubstr(absl::StrCat("key ", other.key, ": not the key of certificate ", good.certificate)));
  EXPECT_THAT(Wrong(Make("old", -2 * day_, -day_)), HasSubstr("expired at"));
  EXPECT_THAT(Wrong(Make("early", day_, 2 * day_)), HasSubstr("not valid before"));
  EXPECT_THAT(Wrong({.certificate = good.certificate, .key = good.key, .client_ca = Write("empty", "")}),
              HasSubstr("client_ca " + Path("empty")));
}

TEST_F(PemFilesTest, AKeyThatOthersReadAndAnEndThatIsNearAreToldAndNoMore) {
  const DoorSettings door = Make("server", -day_, 3 * day_);
  chmod(door.key.c_str(), 0644);
  EXPECT_EQ(Wrong(door), "");
  EXPECT_THAT(warnings_,
              ElementsAre(HasSubstr("(CN=server) expires at"), HasSubstr("others than its owner may read it")));
  warnings_.clear();
  chmod(door.key.c_str(), 0640);
  EXPECT_EQ(Wrong(door), "");
  EXPECT_EQ(warnings_.size(), 1u) << "a group that the owner chose may read it";
}

TEST_F(PemFilesTest, WhoDialsHasItsTokenLookedAt) {
  const std::string ca = Make("ca", -day_, 100 * day_).certificate;
  const auto wrong = [&](const std::string& token) {
    return std::string(
        CheckDialFiles({.ca = ca, .token_file = Write("token", token)}, absl::Now(), &warnings_).message());
  };
  EXPECT_EQ(wrong("0123456789abcdef\n"), "");
  EXPECT_THAT(wrong("short"), AllOf(HasSubstr(Path("token")), HasSubstr("this one has 5")));
  EXPECT_THAT(std::string(CheckDialFiles({.ca = Path("no")}, absl::Now(), &warnings_).message()),
              HasSubstr("ca " + Path("no")));
}

}  // namespace
}  // namespace tandem::security
