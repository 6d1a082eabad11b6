#include "client/ctl/up_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/ctl/http_probe.h"
#include "client/ctl/ports.h"
#include "config/endpoint.h"

namespace tandem::client::ctl {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class UpPlanTest : public ::testing::Test {
 protected:
  UpPlanTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "tandem-up-XXXXXX").string();
    bin_ = mkdtemp(pattern.data());
    for (const char* name : {"tandem-scheduler", "tandem-worker"}) {
      std::ofstream(bin_ / name) << "#!/bin/sh\n";
      std::filesystem::permissions(bin_ / name, std::filesystem::perms::owner_all);
    }
    config_.state_dir = "/state";
    config_.model_root = "/models";
    config_.devices.memory_utilization = 0.8;
  }
  ~UpPlanTest() override { std::filesystem::remove_all(bin_); }

  absl::StatusOr<UpPlan> Plan(int cores = 2) const { return PlanUp(config_, "/c.yaml", bin_.string(), "box", cores); }
  static std::string Line(const ChildSpec& child) {
    return absl::StrJoin(child.argv.begin() + 1, child.argv.end(), " ");
  }

  std::filesystem::path bin_;
  config::ClusterConfig config_;
};

TEST_F(UpPlanTest, TheGatewayIsStartedWhereItIsBuilt) {
  std::ofstream(bin_ / "tandem-gateway") << "#!/bin/sh\n";
  std::filesystem::permissions(bin_ / "tandem-gateway", std::filesystem::perms::owner_all);
  config_.devices.select = {"cpu:0"};
  const auto plan = Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_TRUE(plan->gateway);
  ASSERT_EQ(plan->children.size(), 3u);
  EXPECT_EQ(Line(plan->children[1]),
            "--config /c.yaml --http 127.0.0.1:8000 --scheduler 127.0.0.1:50051 --stop-grace 30s --die-with-parent");
  EXPECT_TRUE(plan->children[1].essential) << "a service that was to speak HTTP and can not is not started";
  EXPECT_LT(plan->children[1].stop_stage, plan->children[2].stop_stage) << "who takes requests in ends first";
}

TEST_F(UpPlanTest, OneSchedulerAndOneWorkerPerDevice) {
  config_.devices.select = {"cpu:0", "cpu:1"};
  config_.devices.cpu_memory_bytes = 1 << 30;
  config_.devices.cpu_threads = 1;
  const auto plan = Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->children.size(), 3u);
  EXPECT_EQ(Line(plan->children[0]),
            "--config /c.yaml --clients 127.0.0.1:50051 --workers 127.0.0.1:50061 --admin 127.0.0.1:50052 "
            "--state-dir /state --model-root /models --metrics 127.0.0.1:9464 --stop-grace 30s");
  EXPECT_TRUE(plan->children[0].essential);
  EXPECT_EQ(plan->children[2].label, "worker cpu:1");
  EXPECT_EQ(
      Line(plan->children[2]),
      "--config /c.yaml --device cpu:1 --scheduler 127.0.0.1:50061 --node box --model-root /models --cpu-devices 2 "
      "--cpu-memory 1073741824 --cpu-threads 1 --memory-utilization 0.8 --die-with-parent");
  EXPECT_LT(plan->children[2].stop_stage, plan->children[0].stop_stage) << "workers end first";
}

TEST_F(UpPlanTest, WhatIsReservedIsToldToEveryKindOfWorker) {
  config_.devices.select = {"cpu:0", "cuda:1", "sim:L4"};
  config_.devices.reserve_bytes = 1 << 20;
  const auto plan = Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  for (size_t i = 1; i < plan->children.size(); ++i) {
    EXPECT_THAT(Line(plan->children[i]), HasSubstr("--reserve 1048576"));
  }
}

TEST_F(UpPlanTest, AllIsWhatTheMachineHas) {
  EXPECT_THAT(Plan(8)->devices, ElementsAre("cpu:0", "cpu:1"));
  EXPECT_THAT(Plan(1)->devices, ElementsAre("cpu:0"));
  EXPECT_THAT(Plan(8)->notes, ElementsAre(HasSubstr("using cpu:0, cpu:1 of 8 cores"), HasSubstr("HTTP is not served")));
}

TEST_F(UpPlanTest, WorkersOfThisMachineDialLoopbackWhenAnyAddressIsServed) {
  config_.server.workers = "0.0.0.0:50061";
  config_.server.plaintext_beyond_loopback = true;
  EXPECT_THAT(Line(Plan()->children[1]), HasSubstr("--scheduler 127.0.0.1:50061"));
}

TEST_F(UpPlanTest, ChildrenAreToldHowToDialAndNotWithWhichToken) {
  config_.security.clients = config_.security.workers = config_.security.admin = {
      .certificate = "/s.crt", .key = "/s.key", .client_ca = "/ca", .client_certificates = "required"};
  config_.security.dial = {.ca = "/ca", .certificate = "/n.crt", .key = "/n.key", .token = "secret"};
  const auto plan = Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(Line(plan->children[1]), HasSubstr(" --ca /ca --cert /n.crt --key /n.key "));
  EXPECT_THAT(Line(plan->children[0]), Not(HasSubstr("--ca")));
  for (const ChildSpec& child : plan->children) EXPECT_THAT(Line(child), Not(HasSubstr("secret")));
}

TEST_F(UpPlanTest, ADoorThatItsOwnProgramsCouldNotOpenIsRefused) {
  config_.security.workers = {.certificate = "/s.crt", .key = "/s.key", .client_certificates = "off"};
  EXPECT_THAT(std::string(Plan().status().message()), HasSubstr("server.workers speaks TLS, but security.dial.ca"));
  config_.security.dial.ca = "/ca";
  EXPECT_TRUE(Plan().ok()) << Plan().status();
  config_.security.workers.client_certificates = "required";
  EXPECT_THAT(std::string(Plan().status().message()), HasSubstr("no security.dial.certificate"));
}

TEST_F(UpPlanTest, PlainTextThatOtherMachinesReachIsServedOnlyWhereItIsAskedFor) {
  config_.server.admin = "0.0.0.0:50052";
  EXPECT_THAT(std::string(Plan().status().message()), HasSubstr("server.admin: other machines can reach"));
  config_.server.plaintext_beyond_loopback = true;
  EXPECT_TRUE(Plan().ok()) << Plan().status();
}

TEST_F(UpPlanTest, SimulatedDevicesAreCountedThrough) {
  config_.devices.select = {"sim:H100", "cpu:0", "sim:H100", "sim:L4:1"};
  config_.devices.sim_speedup = 50;
  config_.devices.sim_memory_bytes = 1 << 30;
  const auto plan = Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->devices, ElementsAre("sim:H100:2", "cpu:0", "sim:H100:3", "sim:L4:1"));
  EXPECT_EQ(Line(plan->children[1]),
            "--config /c.yaml --device sim:H100:2 --scheduler 127.0.0.1:50061 --node box --model-root /models "
            "--sim-memory 1073741824 "
            "--sim-speedup 50 --memory-utilization 0.8 --die-with-parent");
  EXPECT_THAT(Line(plan->children[2]), HasSubstr("--cpu-devices 1"));
  config_.devices.select = {"sim:H100:0", "cpu:0"};
  EXPECT_THAT(std::string(Plan().status().message()), HasSubstr("sim:H100:0 and cpu:0 have the same index"));
}

TEST_F(UpPlanTest, AllMeansTheGpusThatAWorkerFinds) {
  std::ofstream(bin_ / "tandem-worker") << "#!/bin/sh\n[ \"$1\" = --list-devices ] && echo 'cuda:0 RTX 3090, GPU-1' && "
                                           "echo 'cuda:1 RTX 3090, GPU-2'\n";
  config_.devices.select = {};
  const auto plan = Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->devices, ElementsAre("cuda:0", "cuda:1"));
  EXPECT_EQ(Line(plan->children[2]),
            "--config /c.yaml --device cuda:1 --scheduler 127.0.0.1:50061 --node box --model-root /models "
            "--memory-utilization 0.8 "
            "--die-with-parent");
}

TEST_F(UpPlanTest, AllMeansTheCoresWhereThereIsNoGpu) {
  std::ofstream(bin_ / "tandem-worker") << "#!/bin/sh\necho 'tandem-worker: no NVIDIA driver answers' >&2\n";
  config_.devices.select = {};
  const auto plan = Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->devices, ElementsAre("cpu:0", "cpu:1"));
  EXPECT_THAT(plan->notes[0], HasSubstr("there is no GPU (no NVIDIA driver answers): using cpu:0, cpu:1 of 2 cores"));
}

TEST_F(UpPlanTest, AGpuByItsUuidKeepsItsName) {
  config_.devices.select = {"cuda:GPU-12ab", "sim:L4"};
  const auto plan = Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->devices, ElementsAre("cuda:GPU-12ab", "sim:L4:0"));
}

TEST_F(UpPlanTest, WhatCannotBeStartedIsNamed) {
  config_.devices.select = {"cpu:0"};
  config_.server.workers = "127.0.0.1:0";
  EXPECT_THAT(std::string(Plan().status().message()), HasSubstr("server.workers"));
  config_.server.workers = "127.0.0.1:50061";
  std::filesystem::remove(bin_ / "tandem-worker");
  EXPECT_THAT(std::string(Plan().status().message()), HasSubstr("tandem-worker is not beside tandemctl"));
}

class PortsTest : public ::testing::Test {
 protected:
  PortsTest() : holder_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(holder_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(holder_, 1), 0);
    EXPECT_EQ(getsockname(holder_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    server_.clients = server_.workers = server_.admin = server_.http = server_.metrics = "127.0.0.1:0";
  }
  ~PortsTest() override { close(holder_); }

  const int holder_;
  int port_ = 0;
  config::ServerConfig server_;
};

TEST_F(PortsTest, EachAddressThatIsTakenIsNamedWithWhoHasIt) {
  ASSERT_TRUE(CheckPortsFree(server_, true).ok());
  for (const auto& [key, address] :
       {std::pair("server.clients", &server_.clients), std::pair("server.workers", &server_.workers),
        std::pair("server.admin", &server_.admin), std::pair("server.http", &server_.http),
        std::pair("server.metrics", &server_.metrics)}) {
    *address = absl::StrCat("127.0.0.1:", port_);
    const absl::Status taken = CheckPortsFree(server_, true);
    EXPECT_TRUE(absl::IsInvalidArgument(taken)) << key;
    EXPECT_THAT(std::string(taken.message()),
                HasSubstr(absl::StrCat("port ", port_, " is in use by ctl_test, process ", getpid(), " (", key)));
    *address = "127.0.0.1:0";
  }
  server_.http = absl::StrCat("127.0.0.1:", port_);
  EXPECT_TRUE(CheckPortsFree(server_, false).ok()) << "nobody serves HTTP";
}

TEST_F(PortsTest, WhoTakesCallsButIsNoGatewayDoesNotLive) {
  const auto door = config::ParseEndpoint(absl::StrCat("127.0.0.1:", port_));
  std::thread other([this] {
    const int caller = accept(holder_, nullptr, nullptr);
    char buffer[512];
    EXPECT_GT(recv(caller, buffer, sizeof(buffer), 0), 0);
    const std::string answer = "HTTP/1.1 404 Not Found\r\n\r\n";
    EXPECT_EQ(send(caller, answer.data(), answer.size(), 0), static_cast<ssize_t>(answer.size()));
    close(caller);
  });
  const absl::Status status = AskLive(*door, HttpDoor::kPlain, absl::Seconds(10));
  other.join();
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"HTTP/1.1 404 Not Found\""));
}

}  // namespace
}  // namespace tandem::client::ctl
