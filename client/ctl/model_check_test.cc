#include "client/ctl/model_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace tandem::client::ctl {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;

class ModelCheckTest : public ::testing::Test {
 protected:
  ModelCheckTest() {
    config_.devices.select = {"cpu:0", "cpu:1"};
    config_.devices.memory_utilization = 0.5;
    config_.devices.cpu_memory_bytes = 40 * kMiB;
    config_.models.push_back({.name = "m", .path = "folder"});
    machine_.cores = 8;
    machine_.memory_bytes = 1024 * kMiB;
  }
  // The one check, of the scheduler's word on the model.
  std::string Of(const std::string& said) const {
    const auto checks = CheckModels(config_, machine_, absl::StrCat("a line of its log\n", said, "\n"));
    EXPECT_EQ(checks.size(), 1u);
    EXPECT_EQ(checks[0].what, "model m");
    return absl::StrCat(checks[0].verdict == Verdict::kPass ? "PASS " : "FAIL ", checks[0].why);
  }
  static std::string Needs(uint64_t bytes, int ranks = 1) {
    return absl::StrCat(R"({"model":"m","needs":[{"ranks":)", ranks, R"(,"cpu":)", bytes, R"(,"cuda":)", bytes, "}]}");
  }

  config::ClusterConfig config_;
  Machine machine_;
};

TEST_F(ModelCheckTest, WhatTheSchedulerWouldRefuseFailsInItsWords) {
  EXPECT_EQ(Of(R"({"model":"m","error":"model m: folder: no tokenizer"})"), "FAIL folder: no tokenizer");
  EXPECT_THAT(Of(R"({"model":"m","needs":[{"ranks":3,"impossible":"8 heads do not divide by 3"}]})"),
              HasSubstr("FAIL fits in no way: 8 heads do not divide by 3"));
  EXPECT_THAT(Of("tandem-scheduler: no such flag"), HasSubstr("FAIL the scheduler did not read it, and said: tandem-"));
}

TEST_F(ModelCheckTest, TheLeastThatARankNeedsIsComparedWithItsShare) {
  EXPECT_EQ(Of(Needs(20 * kMiB)), "PASS folder, on 1 device");
  EXPECT_THAT(Of(Needs(20 * kMiB + 1)), HasSubstr("a cpu device has 20.0MiB for it, and it needs 20.0MiB"));
  config_.models[0].memory_utilization = 0.25;
  EXPECT_THAT(Of(Needs(20 * kMiB)), HasSubstr("has 10.0MiB for it"));
  config_.devices.reserve_bytes = 30 * kMiB;
  EXPECT_THAT(Of(Needs(20 * kMiB)), HasSubstr("has 5.0MiB for it"));
  config_.devices.cpu_memory_bytes = config_.devices.reserve_bytes = 0;
  EXPECT_THAT(Of(Needs(128 * kMiB)), HasSubstr("PASS")) << "its part of the machine's memory";
  EXPECT_THAT(Of(Needs(129 * kMiB)), HasSubstr("FAIL"));
}

TEST_F(ModelCheckTest, AGroupNeedsThatManyDevicesOfOneKind) {
  EXPECT_EQ(Of(Needs(kMiB, 2)), "PASS folder, on 2 devices");
  EXPECT_THAT(Of(Needs(kMiB, 4)), HasSubstr("a group of 4 on this machine's 2 cpu devices"));
  config_.devices.select = {"cpu:0", "cuda:0"};
  EXPECT_THAT(Of(Needs(kMiB, 2)), HasSubstr("1 cpu device; a group of 2 on this machine's 1 cuda device"));
  config_.devices.select.clear();
  machine_.gpus = 2;
  EXPECT_THAT(Of(Needs(kMiB << 20, 2)), HasSubstr("PASS")) << "what a GPU has is not known here";
  machine_.gpus = 0;
  machine_.cores = 1;
  EXPECT_THAT(Of(Needs(kMiB, 2)), HasSubstr("1 cpu device"));
}

TEST_F(ModelCheckTest, OneShapeThatFitsIsEnough) {
  EXPECT_EQ(Of(R"({"model":"m","needs":[{"ranks":1,"cpu":99000000},{"ranks":2,"cpu":1000000},{"ranks":4,"cpu":1}]})"),
            "PASS folder, on 2 devices");
}

}  // namespace
}  // namespace tandem::client::ctl
