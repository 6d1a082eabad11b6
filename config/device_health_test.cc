#include "config/device_health.h"

#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tandem::config {
namespace {

using testing::HasSubstr;

// As the scheduler reads the table: the first row that fits.
const HealthRow* Row(const std::vector<HealthRow>& rows, const std::string& code) {
  for (const HealthRow& row : rows) {
    const bool prefix = row.on.back() == '*';
    if (prefix ? code.rfind(row.on.substr(0, row.on.size() - 1), 0) == 0 : row.on == code) return &row;
  }
  return nullptr;
}

TEST(DeviceHealthTest, TheShippedTableKnowsWhoseFaultIsWhat) {
  const auto rows = LoadDeviceHealth("");
  ASSERT_TRUE(rows.ok()) << rows.status();
  for (const char* program : {"XID 13", "XID 31", "XID 43", "XID 45"}) {
    EXPECT_EQ(Row(*rows, program)->action, "log") << program;
  }
  for (const char* device : {"XID 48", "XID 79", "XID 95", "XID 119", "XID 120", "device-lost"}) {
    EXPECT_EQ(Row(*rows, device)->action, "fence") << device;
  }
  EXPECT_EQ(Row(*rows, "XID 64")->action, "drain");
  EXPECT_EQ(Row(*rows, "XID 74")->action, "distrust-links");
  EXPECT_EQ(Row(*rows, "XID 94")->action, "quarantine");
  EXPECT_EQ(Row(*rows, "XID 999")->action, "log");
  EXPECT_EQ(Row(*rows, "thermal-hardware")->times, 4);
  EXPECT_EQ(Row(*rows, "unheard-of"), nullptr);
}

TEST(DeviceHealthTest, AFileOfOnesOwnGoesFirst) {
  const std::string path = testing::TempDir() + "/health.yaml";
  std::ofstream(path) << "rules:\n  - {on: XID 79, do: log, because: we know}\n  - {on: XID 13, do: cordon}\n";
  const auto rows = LoadDeviceHealth(path);
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_EQ(Row(*rows, "XID 79")->action, "log");
  EXPECT_EQ(Row(*rows, "XID 13")->action, "cordon");
  EXPECT_EQ(Row(*rows, "XID 48")->action, "fence");
}

TEST(DeviceHealthTest, WhatIsWrongIsNamedWithItsLine) {
  const struct {
    const char* yaml;
    const char* complaint;
  } kCases[] = {
      {"", "expected one section, rules"},
      {"rules: 3", "expected one section, rules"},
      {"rules: []\nmore: 1", "expected one section, rules"},
      {"rules:\n  - on", "t:2: a row is {on: .., do: ..}"},
      {"rules:\n  - {on: a}", "t:2: a row needs on and do"},
      {"rules:\n  - {on: a, do: explode}", "t:2: do: \"explode\" is none of none, log, slow"},
      {"rules:\n  - {on: a, do: log, cool_off: 0s}", "cool_off: 1s to 8760h"},
      {"rules:\n  - {on: a, do: slow, times: 0}", "times:"},
      {"rules:\n  - {on: a, do: log, do: log}", "do: given twice"},
      {"rules:\n  - {on: a, do: log, when: b}", "\"when\" is none of on, do"},
      {"rules:\n  - {on: [a], do: log}", "words and values only"},
      {"rules: [", "not YAML"},
  };
  for (const auto& one : kCases) {
    const auto rows = ReadDeviceHealth(one.yaml, "t");
    ASSERT_FALSE(rows.ok()) << one.yaml;
    EXPECT_THAT(std::string(rows.status().message()), HasSubstr(one.complaint)) << one.yaml;
  }
  EXPECT_FALSE(LoadDeviceHealth("/nowhere/health.yaml").ok());
}

}  // namespace
}  // namespace tandem::config
