#include "client/ctl/machine_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace tandem::client::ctl {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The lines on one thing, of a machine with two GPUs.
std::vector<std::string> Lines(const std::string& what, const config::Environment& environment, int gpus = 2) {
  Machine machine;
  machine.gpus = gpus;
  machine.driver = "550.54";
  machine.uuids = {"GPU-11aa", "GPU-22bb"};
  config::LoadedConfig loaded;
  config::ServerConfig& server = loaded.config.server;
  server.clients = server.workers = server.admin = server.http = server.metrics = "127.0.0.1:0";
  std::vector<std::string> lines;
  for (const Check& check : CheckMachine(loaded, machine, environment, "")) {
    if (check.what != what) continue;
    lines.push_back(absl::StrCat(check.verdict == Verdict::kPass   ? "PASS "
                                 : check.verdict == Verdict::kWarn ? "WARN "
                                                                   : "FAIL ",
                                 check.why));
  }
  return lines;
}

TEST(MachineCheckTest, WhatCudaIsToShowIsThere) {
  EXPECT_THAT(Lines("visibility", {}), ElementsAre("PASS 2 of 2 GPUs are to be used"));
  EXPECT_THAT(Lines("visibility", {{"CUDA_VISIBLE_DEVICES", "1"}, {"GPU_COUNT", "1"}}),
              ElementsAre("PASS 1 of 2 GPUs are to be used"));
  EXPECT_THAT(Lines("visibility", {{"CUDA_VISIBLE_DEVICES", "GPU-22,-1,9"}}),
              ElementsAre("PASS 1 of 2 GPUs are to be used"));
  EXPECT_THAT(Lines("visibility", {{"CUDA_VISIBLE_DEVICES", ""}, {"GPU_COUNT", "0"}}),
              ElementsAre("PASS 0 of 2 GPUs are to be used"));
}

TEST(MachineCheckTest, WhatIsNotThereFails) {
  EXPECT_THAT(Lines("visibility", {{"CUDA_VISIBLE_DEVICES", "0,2"}}),
              ElementsAre(HasSubstr("FAIL CUDA_VISIBLE_DEVICES names 2: 2 are here")));
  EXPECT_THAT(Lines("visibility", {{"CUDA_VISIBLE_DEVICES", "GPU-33"}}),
              ElementsAre(HasSubstr("no GPU of this machine has that UUID (GPU-11aa, GPU-22bb)")));
  EXPECT_THAT(Lines("visibility", {{"CUDA_VISIBLE_DEVICES", "all"}}), ElementsAre(HasSubstr("neither an index")));
  EXPECT_THAT(Lines("visibility", {{"GPU_COUNT", "4"}}), ElementsAre("FAIL GPU_COUNT is 4, and 2 are to be used here"));
}

TEST(MachineCheckTest, WhatTheContainerWasToGetIsComparedWithWhatItGot) {
  EXPECT_THAT(Lines("visibility", {{"NVIDIA_VISIBLE_DEVICES", "GPU-11aa,GPU-22bb"}}),
              ElementsAre("PASS 2 of 2 GPUs are to be used"));
  EXPECT_THAT(Lines("visibility", {{"NVIDIA_VISIBLE_DEVICES", "0,1,2"}}),
              ElementsAre(HasSubstr("WARN NVIDIA_VISIBLE_DEVICES asks for 3 GPUs, and 2 are here")));
  EXPECT_THAT(Lines("visibility", {{"NVIDIA_VISIBLE_DEVICES", "void"}}), ElementsAre(HasSubstr("asks for 0 GPUs")));
  EXPECT_THAT(Lines("visibility", {{"NVIDIA_VISIBLE_DEVICES", "all"}}), ElementsAre(HasSubstr("PASS")));
}

}  // namespace
}  // namespace tandem::client::ctl
