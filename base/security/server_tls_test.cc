#include "base/security/server_tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <filesystem>

#include "absl/time/clock.h"
#include "base/security/test_pair.h"

namespace tandem::security {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::Duration kNever = absl::Hours(1);

class ServerTlsTest : public ::testing::Test {
 protected:
  std::unique_ptr<ServerTls> Open(absl::Duration refresh = kNever) {
    auto tls = ServerTls::Open(door_, refresh, &warnings_);
    EXPECT_TRUE(tls.ok()) << tls.status();
    return *std::move(tls);
  }
  std::string Wrong(const DoorSettings& door) {
    return std::string(ServerTls::Open(door, kNever, &warnings_).status().message());
  }
  static std::string NameOf(const std::shared_ptr<SSL_CTX>& context) {
    char name[64] = "";
    X509_NAME_get_text_by_NID(X509_get_subject_name(SSL_CTX_get0_certificate(context.get())), NID_commonName, name,
                              sizeof(name));
    return name;
  }
  // As those do it who renew certificates.
  static void Replace(const std::string& path, const std::string& by) { std::filesystem::rename(by, path); }

  TestFolder folder_;
  DoorSettings door_ = folder_.Make("first");
  std::vector<std::string> warnings_;
};

TEST_F(ServerTlsTest, WhatIsWrongIsNamedBeforeADoorOpens) {
  EXPECT_EQ(Wrong({.certificate = folder_.Path("none.crt"), .key = door_.key}),
            "certificate " + folder_.Path("none.crt") + ": No such file or directory");
  EXPECT_EQ(Wrong({.certificate = door_.certificate, .key = folder_.Path("none.key")}),
            "key " + folder_.Path("none.key") + ": No such file or directory");
  EXPECT_THAT(Wrong({.certificate = door_.certificate, .key = folder_.Make("other").key}), HasSubstr("not the key of"));
  const DoorSettings late = folder_.Make("late", -absl::Hours(48), -absl::Hours(24));
  EXPECT_THAT(Wrong(late), HasSubstr("expired at"));
  EXPECT_THAT(warnings_, IsEmpty());
}

TEST_F(ServerTlsTest, AKeyThatOthersMayReadIsWarnedOf) {
  chmod(door_.key.c_str(), 0644);
  Open();
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("others than its owner may read it")));
}

TEST_F(ServerTlsTest, WhatIsRenewedIsShownByTheNextConnectionAndTheOldOneStaysWhole) {
  const auto tls = Open();
  const auto open = tls->Context();
  const DoorSettings second = folder_.Make("second", -absl::Hours(1), absl::Hours(24 * 400));
  Replace(door_.certificate, second.certificate);
  EXPECT_THAT(std::string(tls->Refresh().message()), HasSubstr("not the key of")) << "between the two renames";
  EXPECT_EQ(NameOf(tls->Context()), "first");
  Replace(door_.key, second.key);
  EXPECT_EQ(tls->Refresh(), absl::OkStatus());
  EXPECT_EQ(NameOf(tls->Context()), "second");
  EXPECT_EQ(NameOf(open), "first");
  EXPECT_GT(tls->ends(), absl::Now() + absl::Hours(24 * 399));
  const auto same = tls->Context();
  EXPECT_EQ(tls->Refresh(), absl::OkStatus());
  EXPECT_EQ(tls->Context(), same) << "nothing new, and sessions can still be resumed";
}

TEST_F(ServerTlsTest, FilesThatAreGoneOrBrokenChangeNothing) {
  const auto tls = Open();
  folder_.Write("first.crt", "not a certificate");
  EXPECT_THAT(std::string(tls->Refresh().message()), HasSubstr("no certificate in PEM form"));
  std::filesystem::remove(door_.certificate);
  EXPECT_THAT(std::string(tls->Refresh().message()), HasSubstr("No such file"));
  EXPECT_EQ(NameOf(tls->Context()), "first");
}

TEST_F(ServerTlsTest, ItLooksByItself) {
  const auto tls = Open(absl::Milliseconds(2));
  const DoorSettings second = folder_.Make("second");
  Replace(door_.certificate, second.certificate);
  Replace(door_.key, second.key);
  const absl::Time until = absl::Now() + absl::Seconds(20);
  while (NameOf(tls->Context()) != "second" && absl::Now() < until) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_EQ(NameOf(tls->Context()), "second");
}

TEST_F(ServerTlsTest, TheCaOfClientsIsRenewedToo) {
  door_.client_ca = folder_.Make("authority").certificate;
  door_.client_certificates = "required";
  const auto tls = Open();
  EXPECT_EQ(SSL_CTX_get_verify_mode(tls->Context().get()), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT);
  const auto authorities = [&] {
    std::vector<std::string> names;
    const STACK_OF(X509_NAME)* all = SSL_CTX_get_client_CA_list(tls->Context().get());
    for (int i = 0; i < sk_X509_NAME_num(all); ++i) {
      char name[64] = "";
      X509_NAME_get_text_by_NID(sk_X509_NAME_value(all, i), NID_commonName, name, sizeof(name));
      names.push_back(name);
    }
    return names;
  };
  EXPECT_THAT(authorities(), ElementsAre("authority"));
  Replace(door_.client_ca, folder_.Make("successor").certificate);
  EXPECT_EQ(tls->Refresh(), absl::OkStatus());
  EXPECT_THAT(authorities(), ElementsAre("successor"));
}

}  // namespace
}  // namespace tandem::security
