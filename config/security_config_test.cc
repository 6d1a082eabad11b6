#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "config/cluster_config.h"
#include "config/security_rules.h"

namespace tandem::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class SecurityConfigTest : public ::testing::Test {
 protected:
  SecurityConfigTest() {
    char name[] = "/tmp/security_config_XXXXXX";
    folder_ = mkdtemp(name);
  }
  ~SecurityConfigTest() override { std::filesystem::remove_all(folder_); }

  absl::StatusOr<LoadedConfig> Load(const std::string& yaml, const std::vector<FlagValue>& flags = {},
                                    Environment environment = {}) {
    environment["HOME"] = "/h";
    std::ofstream(folder_ + "/c.yaml") << yaml;
    return LoadClusterConfig(folder_ + "/c.yaml", flags, environment);
  }
  LoadedConfig Good(const std::string& yaml, Environment environment = {}) {
    auto loaded = Load(yaml, {}, std::move(environment));
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return loaded.ok() ? *std::move(loaded) : LoadedConfig();
  }
  std::string Wrong(const std::string& yaml) {
    const auto loaded = Load(yaml);
    if (!loaded.ok()) return std::string(loaded.status().message());
    return std::string(CheckServed(loaded->config).message());
  }
  static std::string Origin(const LoadedConfig& loaded, const std::string& key) {
    for (const Setting& setting : loaded.settings) {
      if (setting.key == key) return setting.value + " from " + setting.origin;
    }
    return "no such key";
  }

  std::string folder_;
};

TEST_F(SecurityConfigTest, WithoutItNothingIsEncryptedAndNobodyHasARole) {
  const LoadedConfig loaded = Good("");
  EXPECT_FALSE(loaded.config.security.clients.encrypted());
  EXPECT_FALSE(loaded.config.security.roles());
  EXPECT_FALSE(loaded.config.security.dial.encrypted());
  EXPECT_THAT(loaded.warnings, IsEmpty());
}

TEST_F(SecurityConfigTest, ADoorHasWhatAllHaveUnlessItSaysOtherwise) {
  const LoadedConfig loaded = Good(
      "security:\n"
      "  certificate: s.crt\n"
      "  key: s.key\n"
      "  client_ca: ca.crt\n"
      "  clients: {client_certificates: optional}\n"
      "  admin: {certificate: admin.crt, key: admin.key, client_ca: /ops-ca.crt}\n");
  const SecurityConfig& security = loaded.config.security;
  EXPECT_EQ(security.workers.certificate, folder_ + "/s.crt");
  EXPECT_EQ(security.workers.key, folder_ + "/s.key");
  EXPECT_EQ(security.workers.client_certificates, "required") << "a CA that nobody is held against would be no use";
  EXPECT_EQ(security.clients.client_certificates, "optional");
  EXPECT_EQ(security.clients.client_ca, folder_ + "/ca.crt");
  EXPECT_EQ(security.admin.certificate, folder_ + "/admin.crt");
  EXPECT_EQ(security.admin.client_ca, "/ops-ca.crt");
  EXPECT_EQ(Origin(loaded, "security.workers.certificate"), folder_ + "/s.crt from file " + folder_ + "/c.yaml:2");
  EXPECT_EQ(Origin(loaded, "security.workers.client_certificates"), "required from default");
  EXPECT_EQ(Origin(loaded, "security.clients.client_certificates"), "optional from file " + folder_ + "/c.yaml:5");
}

TEST_F(SecurityConfigTest, TlsServesOtherMachinesWithoutTheFlagForPlainText) {
  const std::string rack = "server: {clients: 0.0.0.0:1, workers: 0.0.0.0:2, admin: 0.0.0.0:3}\n";
  EXPECT_THAT(Wrong(rack), AllOf(HasSubstr("nothing on it is encrypted"), HasSubstr("set security.certificate"),
                                 HasSubstr("server.plaintext_beyond_loopback: true")));
  EXPECT_EQ(Wrong(rack + "security: {certificate: s, key: k, client_ca: c}\n"), "");
  // One door alone does not open the others.
  EXPECT_THAT(Wrong(rack + "security: {clients: {certificate: s, key: k}}\n"), HasSubstr("server.workers"));
  // Metrics have no TLS of their own.
  EXPECT_THAT(Wrong("server: {metrics: 0.0.0.0:1}\nsecurity: {certificate: s, key: k}\n"),
              HasSubstr("put a proxy with TLS before it"));
}

TEST_F(SecurityConfigTest, TheGatewaysTlsIsItsOwn) {
  const std::string grpc = "server: {http: 0.0.0.0:1}\nsecurity: {certificate: s, key: k, client_ca: c, dial: {ca: c}";
  EXPECT_THAT(Wrong(grpc + "}\n"), AllOf(HasSubstr("server.http: other machines can reach"),
                                         HasSubstr("set security.http.certificate and security.http.key")))
      << "what gRPC's doors show is not what a browser asks for";
  EXPECT_EQ(Wrong(grpc + ", http: {certificate: w, key: x}}\n"), "");
  const LoadedConfig loaded = Good(grpc + ", client_certificates: optional, http: {certificate: w, key: x}}\n");
  EXPECT_EQ(loaded.config.security.http.client_ca, "");
  EXPECT_EQ(Origin(loaded, "security.http.certificate"), folder_ + "/w from file " + folder_ + "/c.yaml:2");
  EXPECT_EQ(Origin(loaded, "security.http.client_certificates"), "off from default");
  EXPECT_THAT(loaded.warnings, IsEmpty());
  EXPECT_EQ(Good("", {{"TANDEM_SECURITY_HTTP_CERTIFICATE", "/w"}, {"TANDEM_SECURITY_HTTP_KEY", "/x"}})
                .config.security.http.key,
            "/x");
  EXPECT_EQ(Good("security: {http: {certificate: w, key: x, client_ca: y}}\n").config.security.http.client_certificates,
            "required");
  EXPECT_THAT(Wrong("security: {http: {certificate: w}}\n"), HasSubstr("security.http: a certificate and its key"));
  EXPECT_THAT(Wrong("security: {http: {client_ca: y}}\n"), HasSubstr("need TLS"));
}

TEST_F(SecurityConfigTest, KeysThatTravelInTheOpenAreWarnedOf) {
  const std::string open = "server: {http: 0.0.0.0:1, plaintext_beyond_loopback: true, api_keys_file: k}\n";
  EXPECT_THAT(Good(open).warnings, ElementsAre(HasSubstr("API keys that are sent to 0.0.0.0:1 can be read")));
  EXPECT_THAT(Good(open + "security: {http: {certificate: w, key: x}}\n").warnings, IsEmpty());
  EXPECT_THAT(Good("server: {api_keys_file: k}\n").warnings, IsEmpty());
}

TEST_F(SecurityConfigTest, WhoDialsOverTlsMayNameAnotherMachineButNotServeThere) {
  const auto loaded = Load("server: {clients: head.rack7:50051}\nsecurity: {dial: {ca: c}}\n");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_THAT(std::string(CheckServed(loaded->config).message()), HasSubstr("other machines can reach head.rack7"));
}

TEST_F(SecurityConfigTest, WhatCannotBeIsSaid) {
  EXPECT_THAT(Wrong("security: {certificate: s}\n"), HasSubstr("security.clients: a certificate and its key"));
  EXPECT_THAT(Wrong("security: {client_ca: c}\n"), HasSubstr("need TLS"));
  EXPECT_THAT(Wrong("security: {certificate: s, key: k, client_certificates: required}\n"),
              HasSubstr("no client_ca says who signs them"));
  EXPECT_THAT(Wrong("security: {certificate: s, key: k, identities: [a=admin]}\n"), HasSubstr("nobody could call"));
  EXPECT_THAT(Wrong("security: {identities: [a=root]}\n"), HasSubstr("is not a role"));
  EXPECT_THAT(Wrong("security: {client_certificates: maybe}\n"), HasSubstr("not one of off, optional, required"));
  EXPECT_THAT(Wrong("security: {refresh: 0}\n"), HasSubstr("not from 1s to 24h"));
  EXPECT_THAT(Wrong("security: {dial: {certificate: s, key: k}}\n"), HasSubstr("no security.dial.ca"));
  EXPECT_THAT(Wrong("security: {dial: {cert: s}}\n"), HasSubstr("security.dial.cert: unknown key"));
  EXPECT_THAT(Wrong("security: {dial: {token: s}}\n"), HasSubstr("unknown key"));
}

TEST_F(SecurityConfigTest, WhatLetsInMoreThanMeantIsWarnedOf) {
  const std::string rack = "server: {clients: 0.0.0.0:1, plaintext_beyond_loopback: true}\n";
  EXPECT_THAT(Good(rack + "security: {tokens: t}\n").warnings, ElementsAre(HasSubstr("can be read on the way")));
  EXPECT_THAT(Good(rack + "security: {certificate: s, key: k}\n").warnings,
              ElementsAre(HasSubstr("whoever reaches 0.0.0.0:1")));
  EXPECT_THAT(Good(rack + "security: {certificate: s, key: k, client_ca: c}\n").warnings, IsEmpty());
  EXPECT_THAT(Good(rack + "security: {certificate: s, key: k, tokens: t}\n").warnings, IsEmpty());
}

TEST_F(SecurityConfigTest, HowToDialComesFromTheEnvironmentToo) {
  const LoadedConfig loaded =
      Good("security: {dial: {ca: file-ca, token_file: file-token}}\n", {{"TANDEM_CA", "/e/ca"},
                                                                         {"TANDEM_CERT", "/e/crt"},
                                                                         {"TANDEM_KEY", "/e/key"},
                                                                         {"TANDEM_TLS_SERVER_NAME", "head"},
                                                                         {"TANDEM_TOKEN", "secret-of-the-test"}});
  EXPECT_EQ(loaded.config.security.dial.ca, "/e/ca");
  EXPECT_EQ(loaded.config.security.dial.key, "/e/key");
  EXPECT_EQ(loaded.config.security.dial.server_name, "head");
  EXPECT_EQ(loaded.config.security.dial.token, "secret-of-the-test");
  EXPECT_EQ(loaded.config.security.dial.token_file, "") << "the environment is above the file";
  EXPECT_EQ(Origin(loaded, "security.dial.ca"), "/e/ca from environment TANDEM_CA");
  for (const Setting& setting : loaded.settings) EXPECT_EQ(setting.value.find("secret"), std::string::npos);

  const auto flagged = Load("", {{"security.dial.token_file", "/f", "--token-file"}}, {{"TANDEM_TOKEN", "secret"}});
  ASSERT_TRUE(flagged.ok());
  EXPECT_EQ(flagged->config.security.dial.token_file, "/f");
}

}  // namespace
}  // namespace tandem::config
