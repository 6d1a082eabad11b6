// Over a plugin that is a table of functions of this file, and the NVML of worker/topology/fake_nvml.cc: two GPUs,
// GPU-0 at 10:00.0 and GPU-1 at 21:00.0.
#include "worker/cuda_device.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/cuda_plugin.h"
#include "worker/leftovers.h"
#include "worker/visible_devices.h"

namespace tandem::worker {
namespace {

using placement::PathKind;
using testing::AllOf;
using testing::HasSubstr;

constexpr int64_t kGiB = int64_t{1} << 30;

bool can_reach = true;
CudaPeerWay way;  // besides
absl::StatusOr<std::vector<CudaDeviceFacts>> shown;

class FakeHandle final : public CudaDeviceHandle {
 public:
  explicit FakeHandle(CudaDeviceFacts facts) : facts_(std::move(facts)) {}
  const CudaDeviceFacts& Facts() const override { return facts_; }
  absl::StatusOr<CudaMemory> Memory() const override { return CudaMemory{.free = 70 * kGiB, .total = 80 * kGiB}; }
  absl::StatusOr<CudaPeerWay> WayTo(const CudaDeviceFacts&) const override {
    return CudaPeerWay{can_reach, way.native_atomics, way.performance_rank};
  }
  absl::StatusOr<std::unique_ptr<Executor>> Load(const CudaModelOptions&, Communicator*) override {
    return absl::UnimplementedError("a fake");
  }
  absl::StatusOr<std::unique_ptr<ProbeRoad>> OpenRoad(Communicator*, size_t) override {
    return absl::UnimplementedError("a fake");
  }

 private:
  const CudaDeviceFacts facts_;
};

const CudaPlugin kPlugin = {
    .abi = kCudaPluginAbi,
    .build = "test",
    .list_devices = [] { return shown; },
    .open_device = [](int ordinal,
                      std::function<void(absl::string_view)>) -> absl::StatusOr<std::unique_ptr<CudaDeviceHandle>> {
      return std::make_unique<FakeHandle>((*shown)[ordinal]);
    },
};

class CudaDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    shown = std::vector<CudaDeviceFacts>{
        {.ordinal = 0, .name = "H100", .uuid = "GPU-1", .bus_id = "00000000:21:00.0", .memory_total = 80 * kGiB},
        {.ordinal = 1, .name = "H100", .uuid = "GPU-0", .bus_id = "00000000:10:00.0", .memory_total = 80 * kGiB}};
    can_reach = true;
    way = {};
    setenv("TANDEM_FAKE_NVML", "bridge", 1);
    options_.nvml_library = FAKE_NVML;
    options_.leftovers_patience = std::chrono::milliseconds(0);
  }
  void TearDown() override {
    for (const char* name : {"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "TANDEM_FAKE_NVML_PROCESSES"}) unsetenv(name);
  }

  absl::StatusOr<std::unique_ptr<CudaDevice>> Open(const std::string& spec) {
    options_.spec = spec;
    return CudaDevice::Open(options_, &kPlugin, [](absl::string_view) {});
  }
  std::string WhyNot(const std::string& spec) { return std::string(Open(spec).status().message()); }

  CudaDeviceOptions options_;
};

TEST_F(CudaDeviceTest, IsNamedByNumberUuidOrAddress) {
  for (const char* spec : {"cuda:1", "cuda:GPU-0", "cuda:gpu-0", "cuda:10:00.0", "cuda:0000:10:00.0", "cuda:10:00"}) {
    const auto device = Open(spec);
    ASSERT_TRUE(device.ok()) << spec << ": " << device.status();
    EXPECT_EQ((*device)->uuid(), "GPU-0") << spec;
    EXPECT_EQ((*device)->index(), 0) << "nvidia-smi's number, whatever CUDA calls it";
    EXPECT_EQ((*device)->pci_bus_id(), "00000000:10:00.0");
  }
}

TEST_F(CudaDeviceTest, AWrongNameIsAnsweredWithWhatThereIs) {
  EXPECT_THAT(WhyNot("cuda:2"), AllOf(HasSubstr("no such device"), HasSubstr("cuda:0 H100, GPU-1, 0000:21:00.0"),
                                      HasSubstr("cuda:1 H100, GPU-0")));
  EXPECT_THAT(WhyNot("cuda:GPU-"), HasSubstr("names several devices"));
  EXPECT_THAT(WhyNot("cuda:MIG-7"), HasSubstr("a slice of a GPU (MIG)"));
  setenv("CUDA_VISIBLE_DEVICES", "", 1);
  shown = std::vector<CudaDeviceFacts>{};
  EXPECT_THAT(WhyNot("cuda:0"), AllOf(HasSubstr("CUDA shows no GPU"), HasSubstr("is empty, which hides all GPUs")));
}

TEST_F(CudaDeviceTest, WithoutADriverTheVersionsAreTold) {
  shown = absl::FailedPreconditionError("the driver knows CUDA 11.4, this build needs CUDA 13.0");
  EXPECT_THAT(WhyNot("cuda:0"), AllOf(HasSubstr("CUDA 11.4"), HasSubstr("the driver is 580.65.06")));
}

TEST_F(CudaDeviceTest, HasOneWorkerAtATime) {
  auto first = Open("cuda:0");
  ASSERT_TRUE(first.ok());
  const auto second = Open("cuda:0");
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(absl::StrCat("process ", getpid(), " (worker_test)")));
  EXPECT_TRUE(Open("cuda:1").ok());
  first->reset();
  EXPECT_TRUE(Open("cuda:0").ok());
}

TEST_F(CudaDeviceTest, AKilledHolderLeavesTheLock) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const auto held = Open("cuda:0");
    [[maybe_unused]] auto written = write(ready[1], held.ok() ? "+" : "-", 1);
    pause();
  }
  char said = 0;
  ASSERT_EQ(read(ready[0], &said, 1), 1);
  ASSERT_EQ(said, '+');
  EXPECT_THAT(WhyNot("cuda:0"), HasSubstr(absl::StrCat("process ", child)));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(Open("cuda:0").ok());
}

TEST_F(CudaDeviceTest, TellsItsLinksByNvmlAndPeerAccess) {
  const auto bridged = Open("cuda:0");
  ASSERT_TRUE(bridged.ok());
  ASSERT_EQ((*bridged)->peers().size(), 1u);
  EXPECT_EQ((*bridged)->peers()[0].uuid, "GPU-0");
  EXPECT_EQ((*bridged)->peers()[0].link, PathKind::kNvLink);
  EXPECT_EQ((*bridged)->peers()[0].nvlinks, 4);
  EXPECT_EQ((*bridged)->peers()[0].source, "NVML");
}

TEST_F(CudaDeviceTest, AnNvLinkThatMayNotBeUsedIsNone) {
  can_reach = false;
  const auto device = Open("cuda:0");
  ASSERT_TRUE(device.ok());
  EXPECT_EQ((*device)->peers()[0].link, PathKind::kPhb);
  EXPECT_EQ((*device)->peers()[0].nvlinks, 0);
}

// Without NVML the attributes of CUDA say what there is to say.
TEST_F(CudaDeviceTest, TellsItsWaysByCudaWhereNvmlIsAbsent) {
  options_.nvml_library = "/nowhere/libnvidia-ml.so.1";
  way.native_atomics = true;
  auto device = Open("cuda:0");
  ASSERT_TRUE(device.ok()) << device.status();
  ASSERT_EQ((*device)->peers().size(), 1u);
  EXPECT_EQ((*device)->peers()[0].uuid, "GPU-0");
  EXPECT_EQ((*device)->peers()[0].link, PathKind::kNvLink) << "atomic operations reach the peer";
  EXPECT_EQ((*device)->peers()[0].nvlinks, 1) << "how many, CUDA does not say";
  EXPECT_EQ((*device)->peers()[0].source, "CUDA");
  device->reset();

  way.native_atomics = false;
  EXPECT_EQ((*Open("cuda:0"))->peers()[0].link, PathKind::kPhb);
  can_reach = false;
  way.native_atomics = true;
  device = Open("cuda:0");
  EXPECT_EQ((*device)->peers()[0].link, PathKind::kPhb) << "an NVLink that may not be used is none";
  EXPECT_EQ((*device)->peers()[0].nvlinks, 0);
}

TEST_F(CudaDeviceTest, WaysByCudaMindTheNumaNodes) {
  options_.nvml_library = "/nowhere/libnvidia-ml.so.1";
  options_.root = testing::TempDir() + "cuda_ways";
  const auto put = [&](const std::string& bus, const std::string& node) {
    const std::filesystem::path folder = options_.root + "/sys/bus/pci/devices/" + bus;
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "numa_node") << node << "\n";
  };
  put("0000:21:00.0", "0");
  put("0000:10:00.0", "1");
  EXPECT_EQ((*Open("cuda:0"))->peers()[0].link, PathKind::kSys);
  put("0000:10:00.0", "0");
  EXPECT_EQ((*Open("cuda:0"))->peers()[0].link, PathKind::kPhb);
  put("0000:10:00.0", "-1");
  EXPECT_EQ((*Open("cuda:0"))->peers()[0].link, PathKind::kPhb) << "one way alone is the best there is";
  std::filesystem::remove_all(options_.root);
}

// The fake tells 80 GiB with 78 free.
TEST_F(CudaDeviceTest, CountsTheMemoryOfOtherProcesses) {
  setenv("TANDEM_FAKE_NVML_PROCESSES", absl::StrCat(getpid(), ":512 1:1024").c_str(), 1);
  const auto device = Open("cuda:GPU-0");
  ASSERT_TRUE(device.ok());
  EXPECT_EQ((*device)->FreeOfTotal(), 78 * kGiB);
  EXPECT_EQ((*device)->HeldBytes(), 512 << 20);
  EXPECT_EQ((*device)->FreeBytes(), 70 * kGiB) << "a tenth of the device stays with the others";
}

TEST_F(CudaDeviceTest, WithoutNvmlCudaTellsTheMemory) {
  options_.nvml_library = "/nowhere/libnvidia-ml.so.1";
  const auto device = Open("cuda:0");
  ASSERT_TRUE(device.ok());
  EXPECT_EQ((*device)->FreeOfTotal(), 70 * kGiB);
  EXPECT_EQ((*device)->HeldBytes(), 0) << "what was there before is others'";
}

TEST_F(CudaDeviceTest, WaitsForWhatAKilledProcessHolds) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  waitpid(child, nullptr, 0);  // its number is free now
  setenv("TANDEM_FAKE_NVML_PROCESSES", absl::StrCat(child, ":2048").c_str(), 1);
  options_.leftovers_patience = std::chrono::milliseconds(300);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(Open("cuda:GPU-0").ok()) << "others' memory in the end";
  EXPECT_GE(std::chrono::steady_clock::now() - begin, options_.leftovers_patience);
}

// Guards against two ways of looking too early: a killed worker that nobody has reaped is no living process, and
// memory comes back after the process has left NVML's list.
TEST_F(CudaDeviceTest, WaitsForAZombieAndThenForTheMemory) {
  const std::string ills = testing::TempDir() + "/leftovers";
  const auto tell = [&](const std::string& words) {
    std::ofstream(ills + ".new") << words;
    std::rename((ills + ".new").c_str(), ills.c_str());
  };
  const pid_t child = fork();
  if (child == 0) _exit(0);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  EXPECT_TRUE(HasEnded(child, "")) << "a zombie";
  EXPECT_FALSE(HasEnded(getpid(), ""));
  tell(absl::StrCat("0 holds ", child, " 2048\n0 used 2048\n"));
  setenv("TANDEM_FAKE_NVML_HEALTH", ills.c_str(), 1);
  std::thread driver([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(150));
    tell("0 used 2048\n");
    std::this_thread::sleep_for(std::chrono::milliseconds(150));
    tell("");
  });
  options_.leftovers_patience = std::chrono::seconds(20);
  const auto device = Open("cuda:GPU-0");
  driver.join();
  waitpid(child, nullptr, 0);
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_EQ((*device)->FreeOfTotal(), 78 * kGiB);
  EXPECT_EQ((*device)->HeldBytes(), 0) << "what it waited for is not taken for its own";
  unsetenv("TANDEM_FAKE_NVML_HEALTH");
}

TEST(VisibleDevicesTest, SaysWhereCudaStops) {
  EXPECT_EQ(ExplainVisibility(std::nullopt, 2), "");
  EXPECT_EQ(ExplainVisibility("0,1", 4), "CUDA_VISIBLE_DEVICES=0,1, of 4 in this machine");
  EXPECT_THAT(ExplainVisibility("-1", 2), HasSubstr("CUDA stops at \"-1\" (it names no GPU), which hides all GPUs"));
  EXPECT_THAT(ExplainVisibility("0,7,1", 2), HasSubstr("CUDA stops at \"7\" (this machine has 2)"));
  EXPECT_THAT(ExplainVisibility("GPU-3f, GPU-41", 2), HasSubstr("of 2 in this machine"));
}

TEST(VisibleDevicesTest, SlicesAndUnknownOrdersAreRefusedByName) {
  EXPECT_THAT(std::string(CheckVisibility("0,MIG-3f1a", std::nullopt).message()), HasSubstr("MIG-3f1a"));
  EXPECT_THAT(std::string(CheckVisibility(std::nullopt, "BY_NAME").message()), HasSubstr("PCI_BUS_ID"));
  EXPECT_TRUE(CheckVisibility("0,1", "PCI_BUS_ID").ok());
}

TEST(CudaPluginTest, SaysWhatIsWrongWithALibrary) {
  EXPECT_EQ(LoadCudaPlugin("/nowhere/libtandem_cuda.so").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(LoadCudaPlugin("/proc/self/exe").status().message()), HasSubstr("does not load"));
  EXPECT_THAT(std::string(LoadCudaPlugin(FAKE_NVML).status().message()), HasSubstr("is no CUDA plugin of tandem"));
}

}  // namespace
}  // namespace tandem::worker
