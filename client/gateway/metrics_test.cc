#include "client/gateway/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace tandem::gateway {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(GatewayMetrics, TenantsHaveAnAccountEach) {
  Metrics metrics("1");
  metrics.OnRequest("/v1/completions", "agents", 200, absl::Seconds(1));
  metrics.OnRequest("/v1/completions", "agents", 429, absl::Seconds(1));
  metrics.OnTokens("agents", 5, 7);
  metrics.OnRequest("/health", "", 200, absl::Seconds(1));
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("tandem_http_tenant_requests_total{tenant=\"agents\",code=\"200\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("tandem_http_tenant_requests_total{tenant=\"agents\",code=\"429\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("tandem_http_tenant_tokens_total{tenant=\"agents\",kind=\"prompt\"} 5\n"));
  EXPECT_THAT(text, HasSubstr("tandem_http_tenant_tokens_total{tenant=\"agents\",kind=\"generation\"} 7\n"));
  EXPECT_THAT(text, Not(HasSubstr("tenant=\"\"")));
  EXPECT_THAT(text, HasSubstr("tandem_http_generation_tokens_total 7\n")) << "and are in the sum";
}

TEST(GatewayMetrics, AStreamThatFailsBehindIts200IsCounted) {
  Metrics metrics("1");
  metrics.OnStreamFailed("/v1/completions", "deadline_exceeded");
  metrics.OnStreamFailed("/v1/completions", "deadline_exceeded");
  metrics.OnStreamFailed("/v1/completions", "");
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("tandem_http_streams_failed_total{route=\"/v1/completions\","
                              "reason=\"deadline_exceeded\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("reason=\"internal\"} 1\n"));
}

// Names of a file that changes for ever must not fill the memory.
TEST(GatewayMetrics, TenantsBeyondTheBoundAreCountedTogether) {
  Metrics metrics("1");
  for (int i = 0; i < 2000; ++i) metrics.OnTokens(absl::StrCat("t", i), 1, 1);
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("tenant=\"t1023\",kind=\"prompt\"} 1\n"));
  EXPECT_THAT(text, Not(HasSubstr("tenant=\"t1024\"")));
  EXPECT_THAT(text, HasSubstr("tenant=\"other\",kind=\"prompt\"} 976\n"));
}

}  // namespace
}  // namespace tandem::gateway
