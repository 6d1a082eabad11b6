// The built program against a scheduler of the test's own: what scripts see of it, word for word where they rely on it.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "client/fake_scheduler.h"

namespace tandem::client {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Writer = FakeScheduler::Writer;

// One run of tandemctl. Output is gathered while it runs; Wait() or a signal ends it.
class Invocation {
 public:
  Invocation(const std::vector<std::string>& arguments, const std::vector<std::string>& environment) {
    const char* build = std::getenv("TANDEM_BUILD_DIR");
    const std::string program = absl::StrCat(build == nullptr ? "build" : build, "/bin/tandemctl");
    std::vector<char*> argv = {const_cast<char*>(program.c_str())};
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    std::vector<char*> envp;
    for (const std::string& variable : environment) envp.push_back(const_cast<char*>(variable.c_str()));
    envp.push_back(nullptr);
    int out[2], err[2];
    EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(err, O_CLOEXEC), 0);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(out[1], STDOUT_FILENO);
      dup2(err[1], STDERR_FILENO);
      execve(argv[0], argv.data(), envp.data());
      _exit(126);
    }
    close(out[1]);
    close(err[1]);
    out_ = out[0];
    err_ = err[0];
  }
  ~Invocation() {
    if (pid_ > 0) Wait();
    close(out_);
    close(err_);
  }

  // Blocks until `text` has come on standard output.
  void WaitFor(const std::string& text) {
    char buffer[4096];
    while (stdout_.find(text) == std::string::npos) {
      const ssize_t got = read(out_, buffer, sizeof(buffer));
      ASSERT_GT(got, 0) << "ended without saying: " << text << "; it said: " << stdout_;
      stdout_.append(buffer, static_cast<size_t>(got));
    }
  }
  void Signal(int number) const { kill(pid_, number); }
  int Wait() {
    ReadAll(out_, stdout_);
    ReadAll(err_, stderr_);
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  const std::string& out() const { return stdout_; }
  const std::string& err() const { return stderr_; }

 private:
  static void ReadAll(int fd, std::string& into) {
    char buffer[4096];
    for (ssize_t got; (got = read(fd, buffer, sizeof(buffer))) > 0;) into.append(buffer, static_cast<size_t>(got));
  }

  pid_t pid_ = -1;
  int out_ = -1, err_ = -1;
  std::string stdout_, stderr_;
};

class TandemctlTest : public ::testing::Test {
 protected:
  TandemctlTest() {
    v1::GetStatusResponse& status = scheduler_.status;
    status.set_version("0.1.0");
    status.set_ready(true);
    v1::Model& model = *status.add_models();
    model.set_name("models/tiny");
    model.add_aliases("default");
    model.set_replicas_wanted(1);
    model.set_replicas_ready(1);
    v1::Group& group = *status.add_groups();
    group.set_name("groups/7");
    group.set_model("models/tiny");
    group.set_state(v1::GROUP_READY);
    group.add_devices("nodes/box/devices/0");
    v1::Device& device = *status.add_devices();
    device.set_name("nodes/box/devices/0");
    device.set_kind("cpu");
    device.set_state(v1::DEVICE_ACTIVE);
    device.set_memory_total_bytes(1 << 30);
  }

  std::unique_ptr<Invocation> Start(const std::vector<std::string>& arguments) {
    return std::make_unique<Invocation>(arguments, std::vector<std::string>{"TANDEM_SERVER=" + scheduler_.address(),
                                                                            "TANDEM_ADMIN=" + scheduler_.address()});
  }
  // Runs to the end; the answers are in out_ and err_.
  int Ctl(const std::vector<std::string>& arguments) {
    const auto run = Start(arguments);
    const int code = run->Wait();
    out_ = run->out();
    err_ = run->err();
    return code;
  }

  FakeScheduler scheduler_;
  std::string out_, err_;
};

TEST_F(TandemctlTest, GenerateStreamsTextAndNothingElse) {
  scheduler_.on_generate = [](int, grpc::ServerContext&, const v1::GenerateRequest& request, Writer& writer) {
    EXPECT_EQ(request.model(), "tiny");
    EXPECT_EQ(request.text(), "Once upon");
    EXPECT_TRUE(request.sampling().has_temperature());
    EXPECT_EQ(request.sampling().temperature(), 0);
    EXPECT_EQ(request.stopping().max_tokens(), 8u);
    EXPECT_FALSE(request.has_logprobs());
    FakeScheduler::Accept(writer);
    FakeScheduler::Send(writer, 0, " a", {1});
    FakeScheduler::Send(writer, 1, " time", {2});
    return FakeScheduler::Finish(writer, 2);
  };
  EXPECT_EQ(Ctl({"generate", "--model", "tiny", "--max-tokens", "8", "Once upon"}), 0) << err_;
  EXPECT_EQ(out_, " a time\n");
  EXPECT_THAT(err_, IsEmpty());
}

TEST_F(TandemctlTest, GenerateAsJsonIsOneObject) {
  scheduler_.on_generate = [](int, grpc::ServerContext&, const v1::GenerateRequest& request, Writer& writer) {
    EXPECT_THAT(request.token_ids().ids(), testing::ElementsAre(4, 5, 6));
    FakeScheduler::Accept(writer);
    FakeScheduler::Send(writer, 0, "caf\xc3\xa9 \"", {1, 2});
    FakeScheduler::Send(writer, 2, "x", {3});
    return FakeScheduler::Finish(writer, 3);
  };
  EXPECT_EQ(Ctl({"generate", "--model", "tiny", "--prompt-ids", "4,5,6", "-o", "json"}), 0) << err_;
  const auto object = nlohmann::json::parse(out_);
  EXPECT_EQ(object["request_id"], "00112233445566778899aabbccddeeff");
  EXPECT_EQ(object["text"], "caf\xc3\xa9 \"x");
  EXPECT_EQ(object["token_ids"], nlohmann::json({1, 2, 3}));
  EXPECT_EQ(object["finish_reason"], "LENGTH");
  EXPECT_EQ(object["usage"]["completion_tokens"], 3);
  EXPECT_EQ(object["group"], "groups/7");
  EXPECT_EQ(object["seed"], 42);
}

TEST_F(TandemctlTest, GenerateNeedsOneKindOfPrompt) {
  EXPECT_EQ(Ctl({"generate", "--model", "tiny"}), 2);
  EXPECT_EQ(Ctl({"generate", "--model", "tiny", "--prompt-ids", "1", "text"}), 2);
  EXPECT_EQ(Ctl({"generate", "--model", "tiny", "--max-tokens", "many", "text"}), 2);
}

TEST_F(TandemctlTest, GenerateFindsTheOnlyModel) {
  scheduler_.on_generate = [](int, grpc::ServerContext&, const v1::GenerateRequest& request, Writer& writer) {
    EXPECT_EQ(request.model(), "tiny");
    return FakeScheduler::Finish(writer, 0);
  };
  scheduler_.models.add_models()->set_name("tiny");
  EXPECT_EQ(Ctl({"generate", "text"}), 0) << err_;
  scheduler_.models.add_models()->set_name("huge");
  EXPECT_EQ(Ctl({"generate", "text"}), 2);
  EXPECT_EQ(err_, "tandemctl: --model is needed, one of: tiny, huge\n");
}

TEST_F(TandemctlTest, AFailureIsOneLineWithItsReason) {
  scheduler_.on_generate = [](int, grpc::ServerContext&, const v1::GenerateRequest&, Writer&) {
    return Failure(grpc::StatusCode::NOT_FOUND, "MODEL_NOT_FOUND", "no model \"huge\"");
  };
  EXPECT_EQ(Ctl({"generate", "--model", "huge", "x"}), 4);
  EXPECT_EQ(err_, "tandemctl: no model \"huge\" (MODEL_NOT_FOUND)\n");
  EXPECT_THAT(out_, IsEmpty());
}

TEST_F(TandemctlTest, InterruptCancelsTheRequest) {
  std::atomic<bool> cancelled = false;
  scheduler_.on_generate = [&](int, grpc::ServerContext& context, const v1::GenerateRequest&, Writer& writer) {
    FakeScheduler::Send(writer, 0, "begun", {1});
    const auto status = FakeScheduler::UntilCancelled(context);
    cancelled = true;
    return status;
  };
  const auto run = Start({"generate", "--model", "tiny", "x"});
  run->WaitFor("begun");
  run->Signal(SIGINT);
  EXPECT_EQ(run->Wait(), 130);
  while (!cancelled) absl::SleepFor(absl::Milliseconds(1));
}

TEST_F(TandemctlTest, GenerateTimesOut) {
  scheduler_.on_generate = [&](int, grpc::ServerContext& context, const v1::GenerateRequest&, Writer&) {
    return FakeScheduler::UntilCancelled(context);
  };
  EXPECT_EQ(Ctl({"generate", "--model", "tiny", "--timeout", "200ms", "x"}), 3);
  EXPECT_THAT(err_, HasSubstr("DEADLINE_EXCEEDED"));
}

TEST_F(TandemctlTest, WaitReadyAnswersWithItsExitCode) {
  EXPECT_EQ(Ctl({"wait", "ready", "--timeout", "10s"}), 0) << err_;
  EXPECT_EQ(Ctl({"wait", "ready", "--model", "default"}), 0) << "an alias will do";
  EXPECT_EQ(Ctl({"wait", "ready", "--model", "huge"}), 4);
  scheduler_.status.set_ready(false);
  scheduler_.status.mutable_models(0)->set_replicas_ready(0);
  scheduler_.status.mutable_models(0)->set_waits_for("2 devices, 1 is there");
  EXPECT_EQ(Ctl({"wait", "ready", "--timeout", "200ms"}), 3);
  EXPECT_THAT(err_, HasSubstr("tiny: 2 devices, 1 is there"));
  EXPECT_EQ(Ctl({"wait", "ready", "--timeout", "soon"}), 2);
  EXPECT_EQ(Ctl({"wait", "ready", "--timeout", "200ms", "--admin", "127.0.0.1:1"}), 5);
}

TEST_F(TandemctlTest, NobodyThereIsFive) {
  for (const char* verb : {"status", "topology"}) {
    EXPECT_EQ(Ctl({verb, "--admin", "127.0.0.1:1"}), 5);
    EXPECT_EQ(err_, "tandemctl: nobody listens at 127.0.0.1:1; is the scheduler running?\n");
  }
}

TEST_F(TandemctlTest, StatusShowsEverythingOnce) {
  EXPECT_EQ(Ctl({"status"}), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("ready"));
  EXPECT_THAT(out_, HasSubstr("tiny"));
  EXPECT_THAT(out_, HasSubstr("box/0"));
  EXPECT_THAT(out_, Not(HasSubstr("\x1b"))) << "colour is for terminals";
  EXPECT_EQ(Ctl({"status", "-o", "json"}), 0);
  EXPECT_EQ(nlohmann::json::parse(out_)["devices"][0]["state"], "DEVICE_ACTIVE");
}

TEST_F(TandemctlTest, GetInEveryFormat) {
  EXPECT_EQ(Ctl({"get", "gpus"}), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("box/0"));
  EXPECT_EQ(Ctl({"get", "devices", "-o", "name"}), 0);
  EXPECT_EQ(out_, "nodes/box/devices/0\n");
  EXPECT_EQ(Ctl({"get", "devices", "-o", "json"}), 0);
  EXPECT_EQ(nlohmann::json::parse(out_)["devices"][0]["memory_total_bytes"], "1073741824") << "as proto JSON says it";
  EXPECT_EQ(Ctl({"get", "devices", "-o", "wide"}), 0);
  EXPECT_THAT(out_, HasSubstr("HEARTBEAT"));
  EXPECT_EQ(Ctl({"get", "group", "7", "-o", "yaml"}), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("state: GROUP_READY\n"));
  EXPECT_EQ(Ctl({"get", "group/7", "-o", "name"}), 0);
  EXPECT_EQ(out_, "groups/7\n");
  EXPECT_EQ(Ctl({"describe", "group", "7"}), 0);
  EXPECT_EQ(Ctl({"get", "group", "8"}), 4);
  EXPECT_EQ(Ctl({"get", "pods"}), 2);
  EXPECT_EQ(Ctl({"get", "devices", "-o", "xml"}), 2);
  EXPECT_EQ(Ctl({"describe", "group"}), 2);
}

TEST_F(TandemctlTest, ExplainSaysSentences) {
  scheduler_.explanation.mutable_explanation()->set_subject("requests/ab");
  scheduler_.explanation.mutable_explanation()->set_verdict("runs on groups/7");
  scheduler_.explanation.mutable_explanation()->add_lines("1 other group is DRAINING");
  EXPECT_EQ(Ctl({"explain", "request/ab"}), 0) << err_;
  EXPECT_EQ(out_, "requests/ab: runs on groups/7\n  1 other group is DRAINING\n");
  EXPECT_EQ(Ctl({"explain", "gpu/0"}), 2);
}

TEST_F(TandemctlTest, CordonSendsItsReasonAndARefusalIsSix) {
  scheduler_.on_cordon = [](const v1::CordonDeviceRequest& request, v1::CordonDeviceResponse& response) {
    if (request.name() != "0") return Failure(grpc::StatusCode::FAILED_PRECONDITION, "NEVER_FITS", "no");
    EXPECT_EQ(request.mutation().reason(), "fan");
    response.mutable_device()->set_name("nodes/box/devices/0");
    response.mutable_device()->set_state(v1::DEVICE_ACTIVE);
    response.mutable_device()->set_cordoned(true);
    response.mutable_device()->set_reason("fan");
    return grpc::Status::OK;
  };
  EXPECT_EQ(Ctl({"cordon", "gpu/0", "--reason", "fan"}), 0) << err_;
  EXPECT_EQ(out_, "box/0 ACTIVE cordoned (fan)\n");
  EXPECT_EQ(Ctl({"cordon", "1"}), 6);
  EXPECT_EQ(Ctl({"cordon", "group/7"}), 2) << "a group has no cordon";
}

TEST_F(TandemctlTest, DrainFollowsUntilItIsDone) {
  scheduler_.on_drain = [](const v1::DrainDeviceRequest& request, grpc::ServerContext&,
                           grpc::ServerWriter<v1::DrainDeviceResponse>& writer) {
    EXPECT_EQ(request.on_deadline(), v1::MIGRATE);
    EXPECT_EQ(request.deadline_ms(), 120000u);
    EXPECT_EQ(request.mutation().reason(), "fan");
    v1::DrainDeviceResponse response;
    response.mutable_progress()->set_requests_left(2);
    response.mutable_progress()->set_message("draining 2 of 3 requests, 41 s left");
    response.mutable_progress()->add_groups("groups/7");
    response.mutable_progress()->add_models_affected("tiny: 1 of 2 stays");
    writer.Write(response);
    response.mutable_progress()->set_requests_left(0);
    response.mutable_progress()->set_message("drained nodes/box/devices/0");
    response.mutable_progress()->set_done(true);
    writer.Write(response);
    return grpc::Status::OK;
  };
  EXPECT_EQ(Ctl({"drain", "gpu/0", "--reason", "fan", "--deadline", "2m"}), 0) << err_;
  EXPECT_EQ(
      out_,
      "0: draining 2 of 3 requests, 41 s left\n  groups that leave service: groups/7\n  models: tiny: 1 of 2 stays\n"
      "0: done; drained nodes/box/devices/0\n");
}

TEST_F(TandemctlTest, InterruptLeavesADrainAlone) {
  scheduler_.on_drain = [](const v1::DrainDeviceRequest&, grpc::ServerContext& context,
                           grpc::ServerWriter<v1::DrainDeviceResponse>& writer) {
    v1::DrainDeviceResponse response;
    response.mutable_progress()->set_message("draining 1 of 1 request");
    writer.Write(response);
    return FakeScheduler::UntilCancelled(context);
  };
  const auto run = Start({"drain", "0", "--reason", "fan"});
  run->WaitFor("draining 1 of 1 request");
  run->Signal(SIGINT);
  EXPECT_EQ(run->Wait(), 130);
  EXPECT_THAT(run->err(), HasSubstr("the drain goes on"));
  EXPECT_EQ(Ctl({"drain", "0", "--reason", "fan", "--detach"}), 0) << err_;
}

TEST_F(TandemctlTest, DrainRefusals) {
  scheduler_.on_drain = [](const v1::DrainDeviceRequest&, grpc::ServerContext&,
                           grpc::ServerWriter<v1::DrainDeviceResponse>&) {
    return Failure(grpc::StatusCode::FAILED_PRECONDITION, "WOULD_LOSE_LAST_REPLICA", "tiny has no other group");
  };
  EXPECT_EQ(Ctl({"drain", "0", "--reason", "fan"}), 6);
  EXPECT_EQ(err_, "tandemctl: tiny has no other group (WOULD_LOSE_LAST_REPLICA)\n");
  EXPECT_EQ(Ctl({"drain", "0"}), 2) << "a drain needs a reason";
}

TEST_F(TandemctlTest, TopologyIsAMatrix) {
  *scheduler_.topology.add_devices() = scheduler_.status.devices(0);
  scheduler_.topology.add_devices()->set_name("nodes/box/devices/1");
  v1::TopologyLink& link = *scheduler_.topology.add_links();
  link.set_a("nodes/box/devices/0");
  link.set_b("nodes/box/devices/1");
  link.set_label("same-host");
  EXPECT_EQ(Ctl({"topology"}), 0) << err_;
  EXPECT_EQ(out_, "       box/0      box/1\nbox/0  X          same-host\nbox/1  same-host  X\n");
  link.set_label("SHM");
  link.set_bandwidth_bytes_per_s(5230000000);
  link.set_small_message_ns(18400);
  scheduler_.topology.add_conflicts("box/0 and box/1: SHM is slow");
  EXPECT_EQ(Ctl({"topology"}), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("SHM 5.2GB/s 18us"));
  EXPECT_THAT(out_, HasSubstr("conflict: box/0 and box/1: SHM is slow\n"));
}

TEST_F(TandemctlTest, HelpNamesOnlyWhatIsBuilt) {
  EXPECT_EQ(Ctl({"--help"}), 0);
  for (const char* verb :
       {"up", "generate", "drain", "events", "serve", "deploy", "configure", "bench", "embed", "simulate"})
    EXPECT_THAT(out_, HasSubstr(verb));
  EXPECT_EQ(Ctl({}), 2);
  EXPECT_EQ(Ctl({"serve"}), 2);
  EXPECT_EQ(Ctl({"version"}), 0);
  EXPECT_THAT(out_, HasSubstr("tandemctl 0."));
}

TEST_F(TandemctlTest, ConfigErrorsAreTwo) {
  EXPECT_EQ(Ctl({"config", "show", "--origin", "--config", "config/cpu.yaml"}), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("file config/cpu.yaml:"));
  EXPECT_EQ(Ctl({"config", "validate", "--config", "config/cpu.yaml"}), 0) << err_;
  EXPECT_EQ(Ctl({"config", "validate", "--config", "config/none.yaml"}), 2);
  EXPECT_EQ(Ctl({"up", "--config", "config/none.yaml"}), 2);
}

}  // namespace
}  // namespace tandem::client
