// What a header alone decides: paths, methods, keys, and what pages of other origins may do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/gateway/gateway.h"

namespace tandem::gateway {
namespace {

using ::testing::HasSubstr;

class ScreenTest : public ::testing::Test {
 protected:
  Gateway Make(GatewayOptions options) { return {std::move(options), &keys_, &client_, &metrics_, &closing_}; }
  static HttpRequest Request(const char* method, const char* path, Headers headers = {}) {
    return {.method = method, .path = path, .headers = std::move(headers), .body = "", .id = "id", .caller = {}};
  }
  static std::string HeaderOf(const HttpResponse& response, absl::string_view name) {
    for (const auto& [key, value] : response.headers) {
      if (key == name) return value;
    }
    return "";
  }

  ApiKeys keys_{{"good"}, ""};
  Metrics metrics_{"1"};
  std::atomic<bool> closing_ = false;
  client::AsyncClient client_{"127.0.0.1:1", *security::Dialer::Open({}, nullptr)};
};

TEST_F(ScreenTest, KeysPathsAndMethodsAreLookedAtBeforeABody) {
  Gateway gateway = Make({});
  const auto status = [&](HttpRequest request) {
    const auto answer = gateway.Screen(&request);
    return answer.has_value() ? answer->status : 0;
  };
  EXPECT_EQ(status(Request("POST", "/v1/completions")), 401);
  EXPECT_EQ(status(Request("POST", "/v1/completions", {{"authorization", "Bearer bad"}})), 401);
  EXPECT_EQ(status(Request("POST", "/v1/completions", {{"authorization", "Bearer good"}})), 0);
  EXPECT_EQ(status(Request("GET", "/v1/completions", {{"authorization", "Bearer good"}})), 405);
  EXPECT_EQ(status(Request("POST", "/nothing")), 404);
  EXPECT_EQ(status(Request("GET", "/health")), 0);
  const std::string text = metrics_.Text();
  EXPECT_THAT(text, HasSubstr("tandem_http_requests_total{route=\"/v1/completions\",code=\"401\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("tandem_http_requests_total{route=\"other\",code=\"404\"} 1\n"));
}

TEST_F(ScreenTest, APreflightAllowsTheHeadersThatAClientHas) {
  Gateway gateway = Make({.allowed_origins = {"http://page"}});
  const auto allowed = [&](const std::string& asked) {
    HttpRequest preflight = Request("OPTIONS", "/v1/chat/completions",
                                    {{"origin", "http://page"}, {"access-control-request-headers", asked}});
    return HeaderOf(gateway.Screen(&preflight).value(), "access-control-allow-headers");
  };
  const std::string stainless = "authorization,content-type,x-stainless-arch,x-stainless-retry-count";
  const std::string usual = "authorization, content-type, x-request-id";
  EXPECT_EQ(allowed(stainless), stainless);
  EXPECT_EQ(allowed(""), usual);
  EXPECT_EQ(allowed("a\r\nset-cookie: b"), usual) << "what is no list of names is not repeated";
  EXPECT_EQ(allowed(std::string(3000, 'a')), usual);
}

TEST_F(ScreenTest, APageReadsTheIdsOfItsRequests) {
  Gateway gateway = Make({.allowed_origins = {"http://page"}});
  const auto answer = [&](const char* origin) {
    HttpRequest request = Request("POST", "/v1/completions", {{"origin", origin}});
    return gateway.Screen(&request).value();
  };
  EXPECT_EQ(HeaderOf(answer("http://page"), "access-control-allow-origin"), "http://page");
  EXPECT_THAT(HeaderOf(answer("http://page"), "access-control-expose-headers"), HasSubstr("x-tandem-request-id"));
  EXPECT_EQ(HeaderOf(answer("http://other"), "access-control-allow-origin"), "");
  EXPECT_EQ(HeaderOf(answer("http://other"), "access-control-expose-headers"), "");
}

}  // namespace
}  // namespace tandem::gateway
