#include "client/ctl/gpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

namespace tandem::client::ctl {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class GpusTest : public ::testing::Test {
 protected:
  ~GpusTest() override { unlink(worker_.c_str()); }

  // A worker that does this when it is asked.
  const std::string& Worker(const std::string& script) {
    std::ofstream(worker_) << "#!/bin/sh\n" << script << "\n";
    chmod(worker_.c_str(), 0700);
    return worker_;
  }

  const std::string worker_ = ::testing::TempDir() + "worker-" + std::to_string(getpid());
};

TEST_F(GpusTest, AreWhatTheWorkerSays) {
  const Gpus gpus = AskForGpus(Worker("[ $1 = --list-devices ] && echo 'cuda:0 A' && echo 'cuda:1 B'"),
                               {.most = absl::InfiniteDuration()});
  EXPECT_THAT(gpus.devices, ElementsAre("cuda:0", "cuda:1"));
  EXPECT_EQ(AskForGpus(Worker("echo 'tandem-worker: no driver' >&2"), {.most = absl::InfiniteDuration()}).why_none,
            "no driver");
  EXPECT_THAT(AskForGpus("/nowhere/worker", {.most = absl::InfiniteDuration()}).why_none, HasSubstr("does not start"));
}

// cuInit of a driver that hangs does not return.
TEST_F(GpusTest, ADriverThatHangsIsToldOfAndNotWaitedFor) {
  int told = 0;
  const Gpus gpus =
      AskForGpus(Worker("echo 'cuda:0 A'; exec sleep 1000"),
                 {.most = absl::Milliseconds(100), .unsaid = absl::Milliseconds(10), .slow = [&] { ++told; }});
  EXPECT_THAT(gpus.devices, IsEmpty());
  EXPECT_THAT(gpus.why_none, HasSubstr("the driver did not say which there are in 100ms"));
  EXPECT_EQ(told, 1);
}

}  // namespace
}  // namespace tandem::client::ctl
