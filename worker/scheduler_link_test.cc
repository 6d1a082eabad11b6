// The link against a scheduler that the test plays itself, with a real engine behind it whose model is a hash chain.
#include "worker/scheduler_link.h"

#include <glog/logging.h>
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tandem/v1/worker.grpc.pb.h"
#include "worker/comm/group_bootstrap.h"
#include "worker/engine/fake_executor_for_test.h"
#include "worker/translate.h"

namespace tandem::worker {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::chrono::seconds kPatience{20};

// What is logged while it lives.
class Said final : public google::LogSink {
 public:
  Said() { google::AddLogSink(this); }
  ~Said() override { google::RemoveLogSink(this); }

  void send(google::LogSeverity severity, const char*, const char*, int, const google::LogMessageTime&,
            const char* message, size_t length) override {
    std::lock_guard lock(mu_);
    lines_.push_back(absl::StrCat(severity == google::GLOG_INFO ? "I " : "W ", absl::string_view(message, length)));
    changed_.notify_all();
  }
  // The first line with that text, "I " or "W " before it; empty: it did not come.
  std::string Await(const std::string& text) {
    std::unique_lock lock(mu_);
    std::string found;
    changed_.wait_for(lock, kPatience, [&] {
      for (const std::string& line : lines_) {
        if (found.empty() && absl::StrContains(line, text)) found = line;
      }
      return !found.empty();
    });
    return found;
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  std::vector<std::string> lines_;
};

// What a scheduler says is given by the test; what it hears lies in queues.
class FakeScheduler final : public v1::WorkerService::CallbackService {
 public:
  explicit FakeScheduler(int port = 0) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(absl::StrCat("127.0.0.1:", port), grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    CHECK(server_ != nullptr);
  }
  ~FakeScheduler() override {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
    std::unique_lock lock(mu_);
    changed_.wait(lock, [this] { return calls_ == 0; });
  }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }
  int port() const { return port_; }

  // To the stream that is attached. False if none is.
  bool Say(const v1::AttachResponse& command) {
    std::lock_guard lock(mu_);
    if (attached_ == nullptr) return false;
    attached_->Send(command);
    return true;
  }
  bool Welcome(uint64_t leader_epoch, uint32_t orphan_grace_ms = 60000) {
    v1::AttachResponse message;
    v1::Welcome& welcome = *message.mutable_welcome();
    welcome.set_protocol(1);
    welcome.set_leader_epoch(leader_epoch);
    welcome.set_heartbeat_ms(20);
    welcome.set_orphan_grace_ms(orphan_grace_ms);
    welcome.set_retention_ms(60000);
    return Say(message);
  }
  void Refuse(const grpc::Status& status) {
    std::lock_guard lock(mu_);
    if (attached_ != nullptr) attached_->End(status);
  }

  // The next event of this kind; others before it are dropped.
  std::optional<v1::AttachRequest> Await(v1::AttachRequest::EventCase kind) {
    std::unique_lock lock(mu_);
    std::optional<v1::AttachRequest> found;
    changed_.wait_for(lock, kPatience, [&] {
      while (!events_.empty() && !found) {
        if (events_.front().event_case() == kind) found = events_.front();
        events_.pop_front();
      }
      return found.has_value();
    });
    return found;
  }

  // The output of the one request of the test, as far as it came, without a gap.
  std::vector<TokenId> AwaitOutput(size_t count) {
    std::unique_lock lock(mu_);
    changed_.wait_for(lock, kPatience, [&] { return output_.size() >= count || gap_; });
    EXPECT_FALSE(gap_) << "tokens are missing before a later one";
    return output_;
  }
  std::optional<v1::Ended> AwaitEnd() {
    std::unique_lock lock(mu_);
    changed_.wait_for(lock, kPatience, [&] { return ended_.has_value(); });
    return ended_;
  }

  grpc::ServerBidiReactor<v1::AttachRequest, v1::AttachResponse>* Attach(grpc::CallbackServerContext*) override {
    return new AttachReactor(this);
  }
  grpc::ServerReadReactor<v1::TokensRequest>* Tokens(grpc::CallbackServerContext*, v1::TokensResponse*) override {
    return new TokensReactor(this);
  }

 private:
  class AttachReactor final : public grpc::ServerBidiReactor<v1::AttachRequest, v1::AttachResponse> {
   public:
    explicit AttachReactor(FakeScheduler* scheduler) : scheduler_(scheduler) {
      {
        std::lock_guard lock(scheduler_->mu_);
        ++scheduler_->calls_;
        scheduler_->attached_ = this;
      }
      StartRead(&inbound_);
    }
    void Send(const v1::AttachResponse& command) {  // Under the scheduler's lock, as is End.
      outbound_.push_back(command);
      if (outbound_.size() == 1) StartWrite(&outbound_.front());
    }
    void End(const grpc::Status& status) {
      if (!std::exchange(finished_, true)) Finish(status);
    }
    void OnReadDone(bool ok) override {
      std::lock_guard lock(scheduler_->mu_);
      if (!ok) return End(grpc::Status::OK);
      scheduler_->events_.push_back(inbound_);
      scheduler_->changed_.notify_all();
      StartRead(&inbound_);
    }
    void OnWriteDone(bool ok) override {
      std::lock_guard lock(scheduler_->mu_);
      outbound_.pop_front();
      if (ok && !outbound_.empty() && !finished_) StartWrite(&outbound_.front());
    }
    void OnDone() override {
      {
        std::lock_guard lock(scheduler_->mu_);
        if (scheduler_->attached_ == this) scheduler_->attached_ = nullptr;
        --scheduler_->calls_;
        scheduler_->changed_.notify_all();
      }
      delete this;
    }

   private:
    FakeScheduler* const scheduler_;
    v1::AttachRequest inbound_;
    std::deque<v1::AttachResponse> outbound_;
    bool finished_ = false;
  };

  class TokensReactor final : public grpc::ServerReadReactor<v1::TokensRequest> {
   public:
    explicit TokensReactor(FakeScheduler* scheduler) : scheduler_(scheduler) {
      {
        std::lock_guard lock(scheduler_->mu_);
        ++scheduler_->calls_;
      }
      StartRead(&inbound_);
    }
    void OnReadDone(bool ok) override {
      if (!ok) return Finish(grpc::Status::OK);
      scheduler_->Take(inbound_);
      StartRead(&inbound_);
    }
    void OnDone() override {
      {
        std::lock_guard lock(scheduler_->mu_);
        --scheduler_->calls_;
        scheduler_->changed_.notify_all();
      }
      delete this;
    }

   private:
    FakeScheduler* const scheduler_;
    v1::TokensRequest inbound_;
  };

  void Take(const v1::TokensRequest& message) {
    std::lock_guard lock(mu_);
    for (const v1::RequestUpdate& update : message.updates()) {
      if (update.has_ended()) ended_ = update.ended();
      const v1::Produced& produced = update.produced();
      if (update.has_produced() && produced.first_index() > output_.size()) gap_ = true;
      for (int i = 0; i < produced.token_ids_size(); ++i) {
        if (produced.first_index() + i == output_.size())
          output_.push_back(static_cast<TokenId>(produced.token_ids(i)));
      }
    }
    changed_.notify_all();
  }

  std::mutex mu_;
  std::condition_variable changed_;
  AttachReactor* attached_ = nullptr;  // Guarded by mu_, as are:
  int calls_ = 0;
  std::deque<v1::AttachRequest> events_;
  bool gap_ = false;
  std::optional<v1::Ended> ended_;
  std::vector<TokenId> output_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

class SchedulerLinkTest : public ::testing::Test {
 protected:
  SchedulerLinkTest() : device_(CpuDevice::Open({.node = "box", .cpu_memory = 1 << 30}).value()) {}
  ~SchedulerLinkTest() override {
    if (!link_) return;
    engine_->Post(Stop{"the test is over"});
    engine_->WaitUntilStopped(std::chrono::seconds(10));
    link_->Close(milliseconds(200));
    engine_.reset();
  }

  void StartWorker(const std::string& address, milliseconds most_abort_time = std::chrono::seconds(60),
                   milliseconds most_quiet = std::chrono::seconds(5)) {
    rendezvous_ = Rendezvous::Start().value();
    link_ = std::make_unique<SchedulerLink>(SchedulerLink::Options{.scheduler = address,
                                                                   .build = "test",
                                                                   .incarnation = {4, 2},
                                                                   .rendezvous = rendezvous_->endpoint(),
                                                                   .numerics = "fake",
                                                                   .device = &device_,
                                                                   .on_end =
                                                                       [this](absl::Status why) {
                                                                         std::lock_guard lock(mu_);
                                                                         end_ = std::move(why);
                                                                         changed_.notify_all();
                                                                       },
                                                                   .most_abort_time = most_abort_time,
                                                                   .most_quiet = most_quiet});
    engine_ = std::make_unique<DeviceEngines>(EngineLoop::Options{
        .services = {.load_model = [this](const LoadSpec&,
                                          Communicator* c) -> absl::StatusOr<std::unique_ptr<Executor>> {
                       return std::make_unique<FakeExecutor>(c, [this] { return Step(); });
                     },
                     .free_bytes = [] { return int64_t{1} << 30; },
                     .private_bytes = [] { return int64_t{0}; }},
        .join =
            [this](const GroupIdentity& identity, const std::atomic<bool>* cancelled) {
              return JoinGroup(*rendezvous_, identity, {.cancelled = cancelled});
            },
        .report = [this](Report report) { link_->Report(std::move(report)); }});
    link_->Start(engine_.get());
  }

  // A step waits for its turn once the test holds the brake.
  absl::Status Step() {
    std::unique_lock lock(mu_);
    stands_ = allowed_steps_ == 0;
    changed_.notify_all();
    changed_.wait(lock, [this] { return allowed_steps_ != 0; });
    stands_ = false;
    if (allowed_steps_ > 0) --allowed_steps_;
    return absl::OkStatus();
  }
  bool AwaitStandstill() {
    std::unique_lock lock(mu_);
    return changed_.wait_for(lock, kPatience, [this] { return stands_; });
  }
  void AllowSteps(int count) {  // -1: all
    std::lock_guard lock(mu_);
    allowed_steps_ = count;
    changed_.notify_all();
  }

  std::optional<absl::Status> AwaitProcessEnd() {
    std::unique_lock lock(mu_);
    changed_.wait_for(lock, kPatience, [this] { return end_.has_value(); });
    return end_;
  }

  // A group of one, ready.
  void Serve(FakeScheduler& scheduler, uint32_t orphan_grace_ms = 60000) {
    ASSERT_TRUE(scheduler.Await(v1::AttachRequest::kHello));
    ASSERT_TRUE(scheduler.Welcome(1, orphan_grace_ms));
    v1::AttachResponse form;
    *form.mutable_form_group()->mutable_group() = Group();
    form.mutable_form_group()->set_size(1);
    form.mutable_form_group()->set_secret(std::string(16, 's'));
    form.mutable_form_group()->add_endpoints(rendezvous_->endpoint());
    ASSERT_TRUE(scheduler.Say(form));
    ASSERT_TRUE(scheduler.Await(v1::AttachRequest::kGroupFormed));
    v1::AttachResponse load;
    *load.mutable_load_model()->mutable_group() = Group();
    load.mutable_load_model()->set_model("fake");
    load.mutable_load_model()->set_max_model_len(512);
    load.mutable_load_model()->set_kv_target_bytes(64 * 64);
    ASSERT_TRUE(scheduler.Say(load));
    ASSERT_TRUE(scheduler.Await(v1::AttachRequest::kModelLoaded));
    ASSERT_TRUE(scheduler.Await(v1::AttachRequest::kGroupReady));
  }

  v1::GroupKey Group() { return ToProto(GroupRef{.id = 7, .epoch = {.leader = 1, .counter = 1}}); }

  v1::AttachResponse Ask(uint32_t max_tokens) {
    v1::AttachResponse message;
    v1::AssignRequest& assign = *message.mutable_assign_request();
    *assign.mutable_key() = ToProto(AttemptId{.request = {1}, .attempt = {.leader = 1, .counter = 1}});
    *assign.mutable_group() = Group();
    for (uint32_t id : {3, 1, 4, 1, 5}) assign.add_prompt_ids(id);
    assign.set_max_tokens(max_tokens);
    assign.set_ignore_eos(true);
    return message;
  }
  std::vector<TokenId> Reference(uint32_t max_tokens) {
    return FakeReference({.prompt = {3, 1, 4, 1, 5}, .max_tokens = max_tokens, .ignore_eos = true}, 512);
  }

  std::mutex mu_;
  std::condition_variable changed_;
  std::optional<absl::Status> end_;
  int allowed_steps_ = -1;
  bool stands_ = false;  // a step waits for its turn
  const CpuDevice device_;
  std::unique_ptr<Rendezvous> rendezvous_;
  std::unique_ptr<SchedulerLink> link_;
  std::unique_ptr<DeviceEngines> engine_;
};

TEST_F(SchedulerLinkTest, ItSaysWhatItIsAndServes) {
  FakeScheduler scheduler;
  StartWorker(scheduler.address());
  std::optional<v1::AttachRequest> hello = scheduler.Await(v1::AttachRequest::kHello);
  ASSERT_TRUE(hello);
  EXPECT_EQ(hello->hello().device().node(), "box");
  EXPECT_EQ(hello->hello().device().memory_total_bytes(), uint64_t{1} << 30);
  EXPECT_EQ(hello->hello().incarnation().size(), 16u);
  EXPECT_EQ(hello->hello().shards_size(), 0);
  scheduler.Refuse(grpc::Status(grpc::StatusCode::UNAVAILABLE, "not yet"));
  Serve(scheduler);  // It dials again.

  ASSERT_TRUE(scheduler.Say(Ask(40)));
  EXPECT_EQ(scheduler.AwaitOutput(40), Reference(40));
  ASSERT_TRUE(scheduler.AwaitEnd());
  EXPECT_EQ(scheduler.AwaitEnd()->how(), v1::Ended::LENGTH_REACHED);
  std::optional<v1::AttachRequest> beat;
  do {
    beat = scheduler.Await(v1::AttachRequest::kHeartbeat);
    ASSERT_TRUE(beat);
  } while (beat->heartbeat().shards_size() == 0);
  EXPECT_EQ(beat->heartbeat().shards(0).group().group_id(), 7u);
}

TEST_F(SchedulerLinkTest, AnotherSchedulerGetsWhatIsHeldAndEveryTokenFromTheFirst) {
  auto first = std::make_unique<FakeScheduler>();
  const int port = first->port();
  StartWorker(first->address());
  Serve(*first);
  AllowSteps(10);
  ASSERT_TRUE(first->Say(Ask(60)));
  ASSERT_GE(first->AwaitOutput(5).size(), 5u);
  first.reset();
  AllowSteps(20);

  FakeScheduler second(port);
  std::optional<v1::AttachRequest> hello = second.Await(v1::AttachRequest::kHello);
  ASSERT_TRUE(hello);
  ASSERT_EQ(hello->hello().shards_size(), 1);
  EXPECT_TRUE(hello->hello().shards(0).ready());
  ASSERT_EQ(hello->hello().shards(0).requests_size(), 1);
  EXPECT_EQ(hello->hello().shards(0).requests(0).prompt_tokens(), 5u);
  EXPECT_EQ(hello->hello().highest_leader_epoch(), 1u);
  ASSERT_TRUE(second.Welcome(2));
  AllowSteps(-1);
  EXPECT_EQ(second.AwaitOutput(60), Reference(60));
  EXPECT_TRUE(second.AwaitEnd());
}

TEST_F(SchedulerLinkTest, WithoutASchedulerWhatRunsIsAbortedAfterTheGrace) {
  auto scheduler = std::make_unique<FakeScheduler>();
  StartWorker(scheduler->address());
  Serve(*scheduler, /*orphan_grace_ms=*/50);
  ASSERT_EQ(engine_->Status().size(), 1u);
  scheduler.reset();
  auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!engine_->Status().empty() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(10));
  }
  EXPECT_TRUE(engine_->Status().empty());
}

TEST_F(SchedulerLinkTest, ARefusalEndsTheProcess) {
  FakeScheduler scheduler;
  StartWorker(scheduler.address());
  ASSERT_TRUE(scheduler.Await(v1::AttachRequest::kHello));
  scheduler.Refuse(grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "box/cpu:0 has a worker already"));
  std::optional<absl::Status> end = AwaitProcessEnd();
  ASSERT_TRUE(end);
  EXPECT_EQ(end->code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(end->message(), "box/cpu:0 has a worker already");
}

// Of `up` the scheduler takes a second longer than its workers: three warnings a worker would bury what matters.
TEST_F(SchedulerLinkTest, ASchedulerThatIsJustStartingIsWaitedForInSilence) {
  std::string nobody;
  { nobody = FakeScheduler().address(); }
  Said said;
  const auto begin = std::chrono::steady_clock::now();
  StartWorker(nobody, std::chrono::seconds(60), /*most_quiet=*/milliseconds(400));
  EXPECT_THAT(said.Await("scheduler at " + nobody), StartsWith("I waiting for a scheduler at "));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(400));
}

TEST_F(SchedulerLinkTest, AnOlderLeaderIsNotObeyed) {
  FakeScheduler scheduler;
  StartWorker(scheduler.address());
  ASSERT_TRUE(scheduler.Await(v1::AttachRequest::kHello));
  ASSERT_TRUE(scheduler.Welcome(5));
  ASSERT_TRUE(scheduler.Await(v1::AttachRequest::kHeartbeat));
  scheduler.Refuse(grpc::Status(grpc::StatusCode::UNAVAILABLE, "restarting"));
  std::optional<v1::AttachRequest> hello = scheduler.Await(v1::AttachRequest::kHello);
  ASSERT_TRUE(hello);
  EXPECT_EQ(hello->hello().highest_leader_epoch(), 5u);
  ASSERT_TRUE(scheduler.Welcome(4));
  // It hangs up and dials again instead of beating.
  EXPECT_TRUE(scheduler.Await(v1::AttachRequest::kHello));
}

TEST_F(SchedulerLinkTest, ARequestThatCanNotBeReadGetsItsEnd) {
  FakeScheduler scheduler;
  StartWorker(scheduler.address());
  Serve(scheduler);
  v1::AttachResponse ask = Ask(4);
  ask.mutable_assign_request()->mutable_sampling()->set_top_p(7);
  ASSERT_TRUE(scheduler.Say(ask));
  std::optional<v1::Ended> ended = scheduler.AwaitEnd();
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->how(), v1::Ended::REFUSED);
  EXPECT_THAT(ended->message(), HasSubstr("sampling.top_p"));
}

TEST_F(SchedulerLinkTest, AnAbortThatHangsEndsTheProcess) {
  FakeScheduler scheduler;
  StartWorker(scheduler.address(), milliseconds(100));
  Serve(scheduler);
  AllowSteps(3);
  ASSERT_TRUE(scheduler.Say(Ask(60)));
  ASSERT_GE(scheduler.AwaitOutput(2).size(), 2u);
  ASSERT_TRUE(AwaitStandstill());
  v1::AttachResponse abort;
  *abort.mutable_abort_group()->mutable_group() = Group();
  ASSERT_TRUE(scheduler.Say(abort));
  std::optional<absl::Status> end = AwaitProcessEnd();
  ASSERT_TRUE(end);
  EXPECT_EQ(end->code(), absl::StatusCode::kDeadlineExceeded);
  AllowSteps(-1);
}

// Guards against health that is lost with the line: what lasts is told to every scheduler, what happened to one.
TEST_F(SchedulerLinkTest, HealthIsToldToWhoeverCanHearIt) {
  FakeScheduler scheduler;
  StartWorker(scheduler.address());
  link_->ReportHealth({"XID 31", "before there was anybody", false, false});
  link_->ReportHealth({"thermal-hardware", "hot", true, false});
  const auto next = [&] {
    const auto message = scheduler.Await(v1::AttachRequest::kDeviceHealth);
    if (!message) return std::string("nothing");
    const v1::DeviceHealth& health = message->device_health();
    return absl::StrCat(health.cleared() ? "-" : health.lasting() ? "+" : "!", health.code());
  };
  ASSERT_TRUE(scheduler.Await(v1::AttachRequest::kHello));
  ASSERT_TRUE(scheduler.Welcome(1));
  EXPECT_EQ(next(), "!XID 31");
  EXPECT_EQ(next(), "+thermal-hardware");

  scheduler.Refuse(grpc::Status(grpc::StatusCode::UNAVAILABLE, "a new leader"));
  ASSERT_TRUE(scheduler.Await(v1::AttachRequest::kHello));
  ASSERT_TRUE(scheduler.Welcome(1));
  EXPECT_EQ(next(), "+thermal-hardware");
  link_->ReportHealth({"thermal-hardware", "", true, true});
  EXPECT_EQ(next(), "-thermal-hardware");
}

TEST_F(SchedulerLinkTest, AFarewellIsHeard) {
  FakeScheduler scheduler;
  StartWorker(scheduler.address());
  Serve(scheduler);
  link_->Leave("Terminated");
  engine_->Post(Stop{"the worker stops"});
  std::optional<v1::AttachRequest> leaving = scheduler.Await(v1::AttachRequest::kLeaving);
  ASSERT_TRUE(leaving);
  EXPECT_EQ(leaving->leaving().reason(), "Terminated");
  std::optional<v1::AttachRequest> failed = scheduler.Await(v1::AttachRequest::kGroupFailed);
  ASSERT_TRUE(failed);
  EXPECT_EQ(failed->group_failed().reason(), v1::GroupFailed::ABORTED);
}

}  // namespace
}  // namespace tandem::worker
