#include "config/units.h"

#include <gtest/gtest.h>

#include "config/endpoint.h"

namespace tandem::config {
namespace {

TEST(UnitsTest, SizesWithAndWithoutUnits) {
  EXPECT_EQ(*ParseBytes("0"), 0u);
  EXPECT_EQ(*ParseBytes("4096"), 4096u);
  EXPECT_EQ(*ParseBytes("4GiB"), 4ull << 30);
  EXPECT_EQ(*ParseBytes(" 512 MiB "), 512ull << 20);
  EXPECT_EQ(*ParseBytes("1.5Gi"), 3ull << 29);
  EXPECT_EQ(*ParseBytes("2GB"), 2000000000u);
  EXPECT_EQ(*ParseBytes("0.000000001GB"), 1u);
  EXPECT_EQ(*ParseBytes("9223372036854775807"), static_cast<uint64_t>(INT64_MAX));
}

TEST(UnitsTest, SizesThatAreNone) {
  for (const char* text : {"", "GiB", "4G", "-1", "1.2.3GiB", "1.", ".5GiB", "4 GiBs", "0x10", "1e9", "nan",
                           "99999999999999999999", "1.0000000001GiB", "４GiB"}) {
    EXPECT_FALSE(ParseBytes(text).ok()) << text;
  }
  EXPECT_FALSE(ParseBytes("9223372036854775808").ok()) << "one more than fits";
  EXPECT_FALSE(ParseBytes("8388608TiB").ok());
}

TEST(UnitsTest, FormattedSizesReadBack) {
  for (const uint64_t bytes : {0ull, 1ull, 1023ull, 1024ull, 1536ull << 20, 4ull << 30, 5ull << 40}) {
    EXPECT_EQ(*ParseBytes(FormatBytes(bytes)), bytes);
  }
  EXPECT_EQ(FormatBytes(1536ull << 20), "1536MiB");
  EXPECT_EQ(FormatBytesShort(1536ull << 20), "1.5GiB");
  EXPECT_EQ(FormatBytesShort(17), "17B");
}

TEST(UnitsTest, Durations) {
  EXPECT_EQ(*ParseDuration("500ms"), absl::Milliseconds(500));
  EXPECT_EQ(*ParseDuration("1h30m"), absl::Minutes(90));
  EXPECT_EQ(*ParseDuration("0"), absl::ZeroDuration());
  for (const char* text : {"", "500", "-1s", "inf", "ten seconds", "10000h"}) {
    EXPECT_FALSE(ParseDuration(text).ok()) << text;
  }
}

TEST(UnitsTest, NumbersAndRanges) {
  EXPECT_EQ(*ParseInteger("-100", -100, 100), -100);
  EXPECT_FALSE(ParseInteger("101", -100, 100).ok());
  EXPECT_FALSE(ParseInteger("1.5", 0, 9).ok());
  EXPECT_FALSE(ParseInteger("99999999999999999999", 0, INT64_MAX).ok());
  EXPECT_DOUBLE_EQ(*ParseReal("0.9", 0, 1), 0.9);
  EXPECT_DOUBLE_EQ(*ParseReal("1", 0, 1), 1);
  EXPECT_FALSE(ParseReal("0", 0, 1).ok()) << "the lower end is open";
  EXPECT_FALSE(ParseReal("nan", 0, 1).ok());
  EXPECT_FALSE(ParseReal("inf", 0, 1).ok());
  EXPECT_TRUE(*ParseBool("true"));
  EXPECT_FALSE(ParseBool("yes").ok());
}

TEST(EndpointTest, HostsOfAllKinds) {
  EXPECT_EQ(ParseEndpoint("127.0.0.1:50051")->port, 50051);
  EXPECT_EQ(ParseEndpoint("[::1]:80")->host, "::1");
  EXPECT_EQ(ParseEndpoint("[::1]:80")->ToString(), "[::1]:80");
  EXPECT_TRUE(ParseEndpoint("localhost:1")->IsLoopback());
  EXPECT_TRUE(ParseEndpoint("127.3.2.1:1")->IsLoopback());
  EXPECT_FALSE(ParseEndpoint("0.0.0.0:1")->IsLoopback());
}

TEST(EndpointTest, WhatIsNoAddress) {
  for (const char* text :
       {"", "50051", ":50051", "host:", "host:-1", "host:65536", "::1:80", "http://host:80", "a b:1"}) {
    EXPECT_FALSE(ParseEndpoint(text).ok()) << text;
  }
}

}  // namespace
}  // namespace tandem::config
