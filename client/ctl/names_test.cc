#include "client/ctl/names.h"

#include <gtest/gtest.h>

#include "client/ctl/tables.h"

namespace tandem::client::ctl {
namespace {

void ExpectName(const char* text, Kind otherwise, Kind kind, const char* name) {
  const auto parsed = ParseName(text, otherwise);
  ASSERT_TRUE(parsed.ok()) << text << ": " << parsed.status();
  EXPECT_EQ(parsed->kind, kind) << text;
  EXPECT_EQ(parsed->name, name) << text;
}

TEST(NamesTest, DevicesInEverySpelling) {
  for (const char* text : {"0", "gpu/0", "gpus/0", "device/0", "devices/0"}) {
    ExpectName(text, Kind::kDevice, Kind::kDevice, "0");
  }
  ExpectName("box/0", Kind::kDevice, Kind::kDevice, "box/0");
  ExpectName("gpu/box/0", Kind::kDevice, Kind::kDevice, "box/0");
  ExpectName("nodes/box/devices/0", Kind::kDevice, Kind::kDevice, "nodes/box/devices/0");
  ExpectName("0000:3b:00.0", Kind::kDevice, Kind::kDevice, "0000:3b:00.0");
  ExpectName("GPU-12ab", Kind::kDevice, Kind::kDevice, "GPU-12ab");
}

TEST(NamesTest, AKindInFrontWins) {
  ExpectName("node/box", Kind::kDevice, Kind::kNode, "nodes/box");
  ExpectName("nodes/box", Kind::kDevice, Kind::kNode, "nodes/box");
  ExpectName("group/7", Kind::kDevice, Kind::kGroup, "groups/7");
  ExpectName("groups/7", Kind::kRequest, Kind::kGroup, "groups/7");
  ExpectName("request/ab", Kind::kDevice, Kind::kRequest, "requests/ab");
}

TEST(NamesTest, ABareNameIsOfTheKindThatWasAskedFor) {
  ExpectName("7", Kind::kGroup, Kind::kGroup, "groups/7");
  ExpectName("org/name", Kind::kModel, Kind::kModel, "models/org/name");
  ExpectName("model/org/name", Kind::kModel, Kind::kModel, "models/org/name");
}

TEST(NamesTest, WhatNamesNothing) {
  EXPECT_FALSE(ParseName("", Kind::kDevice).ok());
  EXPECT_FALSE(ParseName("gpu/", Kind::kDevice).ok());
  EXPECT_FALSE(ParseKind("pods").ok());
}

TEST(TablesTest, ShortNamesAreWhatTheCommandsTake) {
  EXPECT_EQ(ShortName("nodes/box/devices/3"), "box/3");
  EXPECT_EQ(ShortName("nodes/box"), "box");
  EXPECT_EQ(ShortName("groups/7"), "7");
  EXPECT_EQ(ShortName("models/org/name"), "org/name");
  EXPECT_EQ(ShortName("strange"), "strange");
}

TEST(TablesTest, ColumnsStandBelowEachOther) {
  Table table({"A", "LONGER", "C"});
  table.Add({"wide cell", "x", "1"});
  EXPECT_EQ(table.ToString(), "A          LONGER  C\nwide cell  x       1\n");
}

TEST(TablesTest, EveryStateHasAWordAndUnknownOnesANumber) {
  v1::Device device;
  EXPECT_EQ(StateWord(device, "state"), "-");
  device.set_state(v1::DEVICE_ACTIVE);
  EXPECT_EQ(StateWord(device, "state"), "ACTIVE");
  device.set_state(static_cast<v1::DeviceState>(99));
  EXPECT_EQ(StateWord(device, "state"), "99");
}

TEST(PrintTest, JsonKeepsTheProtosNamesAndDefaults) {
  v1::Node node;
  node.set_name("nodes/box");
  EXPECT_EQ(ToJson(node), "{\n \"name\": \"nodes/box\",\n \"devices\": 0,\n \"active_devices\": 0\n}\n");
  EXPECT_EQ(ToYaml(node), "name: nodes/box\ndevices: 0\nactive_devices: 0\n");
}

}  // namespace
}  // namespace tandem::client::ctl
