// The scheduler behind its real doors, with workers that compute nothing: every path of a request over gRPC.
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/notification.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "scheduler/core/invariants.h"
#include "scheduler/server.h"
#include "tandem/v1/inference.grpc.pb.h"
#include "tests/rpc/fake_worker.h"

namespace tandem::testing {
namespace {

using ::testing::HasSubstr;

std::string Reason(const grpc::Status& status) {
  google::rpc::Status details;
  google::rpc::ErrorInfo info;
  if (!details.ParseFromString(status.error_details()) || details.details_size() == 0) return "";
  return details.details(0).UnpackTo(&info) ? info.reason() : "";
}

scheduler::ModelCatalog TinyCatalog() {
  const char* root = std::getenv("TANDEM_SOURCE_DIR");
  config::ModelConfig model;
  model.name = "tiny";
  model.aliases = {"default"};
  model.path = std::string(root == nullptr ? "." : root) + "/models/tandem-tiny";
  model.tensor_parallel = 1;
  auto catalog = scheduler::ModelCatalog::Load({model}, {});
  EXPECT_TRUE(catalog.ok()) << catalog.status();
  return *std::move(catalog);
}

struct Answer {
  std::string request_id;
  std::vector<uint32_t> ids;
  std::string text;
  std::optional<v1::Finished> finished;
  grpc::Status status;
  int chunks = 0;
};

class RpcTest : public ::testing::Test {
 protected:
  RpcTest() : catalog_(TinyCatalog()) {
    scheduler::ServerOptions options;
    options.clients = options.workers = options.admin = "127.0.0.1:0";
    options.expected_devices = 1;
    options.detect_deadlocks = true;
    options.router.detach_grace = core::Milliseconds(300);
    server_ = std::make_unique<scheduler::Server>(options, TinyCatalog(), nullptr);
    const absl::Status status = server_->Start();
    EXPECT_TRUE(status.ok()) << status;
    stub_ = v1::InferenceService::NewStub(Channel(server_->clients_port()));
    admin_ = v1::AdminService::NewStub(Channel(server_->admin_port()));
  }
  ~RpcTest() override {
    if (!stopped_) ExpectNothingLeft();
    workers_.clear();
    server_->Shutdown(absl::ZeroDuration());
  }

  static std::shared_ptr<grpc::Channel> Channel(int port) {
    return grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials());
  }
  FakeWorker& AddWorker(FakeWorker::Options options = {}) {
    options.address = absl::StrCat("127.0.0.1:", server_->workers_port());
    workers_.push_back(std::make_unique<FakeWorker>(options));
    return *workers_.back();
  }
  // Asks the core between two steps.
  template <typename T>
  T Look(const std::function<T(const core::Core&)>& look) {
    T result;
    absl::Notification done;
    EXPECT_TRUE(server_->core().PostQuery([&](const core::Core& core) {
      result = look(core);
      done.Notify();
    }));
    done.WaitForNotification();
    return result;
  }
  static bool Eventually(const std::function<bool()>& check) {
    for (int i = 0; i < 3000; ++i) {
      if (check()) return true;
      absl::SleepFor(absl::Milliseconds(10));
    }
    return false;
  }
  bool WaitReady(int groups = 1) {
    return Eventually([&] {
      return Look<int>([](const core::Core& core) {
               return core.state().models.empty() ? 0 : core.state().ReadyReplicas(core.state().models[0]);
             }) >= groups;
    });
  }
  // No request in the core, none in the store, no booking, and the core's own books agree.
  void ExpectNothingLeft() {
    EXPECT_TRUE(Eventually([&] { return server_->store().living() == 0; })) << server_->store().living() << " live";
    EXPECT_TRUE(Eventually([&] {
      return Look<bool>([](const core::Core& core) {
        if (!core.state().requests.empty()) return false;
        for (const auto& [id, group] : core.state().groups) {
          if (group.kv.booked.value != 0 || !group.requests.empty()) return false;
        }
        return true;
      });
    })) << "a request or booking is left in the core";
    EXPECT_EQ(Look<std::string>(
                  [](const core::Core& core) { return absl::StrJoin(core::CheckInvariants(core.state()), "\n"); }),
              "");
  }

  static v1::GenerateRequest Ask(std::vector<uint32_t> prompt, uint32_t max_tokens) {
    v1::GenerateRequest request;
    request.set_model("tiny");
    request.mutable_token_ids()->mutable_ids()->Add(prompt.begin(), prompt.end());
    request.mutable_stopping()->set_max_tokens(max_tokens);
    return request;
  }
  template <typename Reader, typename Response>
  static void Drain(Reader& reader, Response& message, Answer* answer, size_t first = 0) {
    while (reader.Read(&message)) {
      if (message.has_accepted()) answer->request_id = message.accepted().request_id();
      if (message.has_finished()) answer->finished = message.finished();
      if (!message.has_chunk()) continue;
      ++answer->chunks;
      EXPECT_EQ(message.chunk().offset(), first + answer->ids.size());
      answer->ids.insert(answer->ids.end(), message.chunk().token_ids().begin(), message.chunk().token_ids().end());
      answer->text += message.chunk().text();
    }
    answer->status = reader.Finish();
  }
  Answer Generate(const v1::GenerateRequest& request, std::optional<absl::Duration> deadline = {}) {
    grpc::ClientContext context;
    if (deadline) context.set_deadline(absl::ToChronoTime(absl::Now() + *deadline));
    auto reader = stub_->Generate(&context, request);
    v1::GenerateResponse message;
    Answer answer;
    Drain(*reader, message, &answer);
    return answer;
  }
  static std::vector<uint32_t> Chain(const std::vector<uint32_t>& prompt, size_t count) {
    TokenChain chain(FakeWorker::Options().low, FakeWorker::Options().high);
    for (uint32_t id : prompt) chain.Take(id);
    std::vector<uint32_t> ids;
    while (ids.size() < count) ids.push_back(chain.Next());
    return ids;
  }
  std::string Text(const std::vector<uint32_t>& ids) {
    tokenizer::IncrementalDetokenizer detokenizer(*catalog_.models()[0]->tokenizer, {.continues_text = true});
    std::string text;
    for (uint32_t id : ids) detokenizer.Append(static_cast<int32_t>(id), &text);
    detokenizer.Flush(&text);
    return text;
  }

  const scheduler::ModelCatalog catalog_;
  std::unique_ptr<scheduler::Server> server_;
  std::unique_ptr<v1::InferenceService::Stub> stub_;
  std::unique_ptr<v1::AdminService::Stub> admin_;
  std::vector<std::unique_ptr<FakeWorker>> workers_;
  bool stopped_ = false;  // the test ended the server itself
};

TEST_F(RpcTest, StreamsTheChainAndItsText) {
  AddWorker();
  ASSERT_TRUE(WaitReady());
  const std::vector<uint32_t> prompt = {301, 302, 303};
  const Answer answer = Generate(Ask(prompt, 40));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.ids, Chain(prompt, 40));
  EXPECT_EQ(answer.text, Text(answer.ids));
  ASSERT_TRUE(answer.finished);
  EXPECT_EQ(answer.finished->reason(), v1::LENGTH);
  EXPECT_EQ(answer.finished->usage().prompt_tokens(), 3u);
  EXPECT_EQ(answer.finished->usage().completion_tokens(), 40u);
  EXPECT_GE(answer.finished->timings().total_us(), answer.finished->timings().first_token_us());
}

TEST_F(RpcTest, TextIsTokenizedAndAnAliasAnswers) {
  AddWorker();
  ASSERT_TRUE(WaitReady());
  v1::GenerateRequest request;
  request.set_model("default");
  request.set_text("A river");
  request.mutable_stopping()->set_max_tokens(5);
  const Answer answer = Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  const auto ids = catalog_.models()[0]->tokenizer->Encode("A river");
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(answer.ids, Chain(std::vector<uint32_t>(ids->begin(), ids->end()), 5));
}

TEST_F(RpcTest, AStopStringEndsTheEngineToo) {
  FakeWorker& worker = AddWorker();
  ASSERT_TRUE(WaitReady());
  const std::string text = Text(Chain({301}, 200));
  auto request = Ask({301}, 200);
  request.mutable_stopping()->add_stop(text.substr(20, 5));
  const Answer answer = Generate(request);
  ASSERT_TRUE(answer.finished);
  EXPECT_EQ(answer.finished->reason(), v1::STOP);
  EXPECT_EQ(answer.finished->stop_string(), text.substr(20, 5));
  EXPECT_EQ(answer.text, text.substr(0, text.find(text.substr(20, 5))));
  EXPECT_TRUE(Eventually([&] { return worker.running() == 0; }));
}

TEST_F(RpcTest, BadRequestsAreToldWhy) {
  AddWorker();
  ASSERT_TRUE(WaitReady());
  const auto reason = [&](const std::function<void(v1::GenerateRequest&)>& change) {
    auto request = Ask({301}, 5);
    change(request);
    const Answer answer = Generate(request);
    EXPECT_FALSE(answer.status.error_message().empty());
    return Reason(answer.status);
  };
  EXPECT_EQ(reason([](auto& r) { r.set_model("nobody"); }), "MODEL_NOT_FOUND");
  EXPECT_EQ(reason([](auto& r) { r.set_text(""); }), "INVALID_PARAMETER");
  EXPECT_EQ(reason([](auto& r) { r.set_text("ab\xFF"); }), "INVALID_PARAMETER");
  EXPECT_EQ(reason([](auto& r) { r.mutable_sampling()->set_temperature(std::nanf("")); }), "INVALID_PARAMETER");
  EXPECT_EQ(reason([](auto& r) { r.mutable_stopping()->set_max_tokens(0); }), "INVALID_PARAMETER");
  EXPECT_EQ(reason([](auto& r) { r.mutable_stopping()->set_max_tokens(1u << 31); }), "INVALID_PARAMETER");
  EXPECT_EQ(reason([](auto& r) { r.mutable_sampling()->set_n(3); }), "UNSUPPORTED_PARAMETER");
  EXPECT_EQ(reason([](auto& r) { r.mutable_chat(); }), "INVALID_PARAMETER");
  EXPECT_EQ(reason([](auto& r) { r.set_text(std::string(10 << 20, 'a')); }), "CONTEXT_LENGTH_EXCEEDED");
  EXPECT_EQ(reason([&](auto& r) {
              for (uint32_t i = 0; i < catalog_.models()[0]->limits.max_model_len; ++i) {
                r.mutable_token_ids()->add_ids(301);
              }
            }),
            "CONTEXT_LENGTH_EXCEEDED");
  EXPECT_TRUE(Generate(Ask({301}, 5)).status.ok()) << "nobody else was disturbed";
}

TEST_F(RpcTest, ADeadlineCutsAWaitAndARun) {
  const Answer waiting = Generate(Ask({301}, 5), absl::Milliseconds(100));  // no worker yet
  EXPECT_EQ(waiting.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  FakeWorker& worker = AddWorker({.step = std::chrono::milliseconds(20)});
  ASSERT_TRUE(WaitReady());
  const Answer running = Generate(Ask({301}, 500), absl::Milliseconds(300));
  EXPECT_EQ(running.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(Eventually([&] { return worker.running() == 0; }));
}

TEST_F(RpcTest, ACallThatIsCancelledCancelsTheRequest) {
  FakeWorker& worker = AddWorker({.step = std::chrono::milliseconds(5)});
  ASSERT_TRUE(WaitReady());
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Ask({301}, 500));
  v1::GenerateResponse message;
  while (reader->Read(&message) && !message.has_chunk()) {
  }
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(Eventually([&] { return worker.running() == 0; }));
}

TEST_F(RpcTest, AbortEndsAStream) {
  AddWorker({.step = std::chrono::milliseconds(5)});
  ASSERT_TRUE(WaitReady());
  grpc::ClientContext context, abort_context;
  auto reader = stub_->Generate(&context, Ask({301}, 500));
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  v1::AbortRequest abort;
  v1::AbortResponse aborted;
  abort.add_request_ids(message.accepted().request_id());
  abort.add_request_ids("00000000000000000000000000000000");
  ASSERT_TRUE(stub_->Abort(&abort_context, abort, &aborted).ok());
  EXPECT_EQ(aborted.aborted_size(), 1);
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(RpcTest, AKeyAttachesAndResumeGoesOn) {
  AddWorker({.step = std::chrono::milliseconds(1)});
  ASSERT_TRUE(WaitReady());
  auto request = Ask({301}, 100);
  request.set_idempotency_key("k");
  Answer second;
  std::thread other;
  {
    grpc::ClientContext context;
    auto reader = stub_->Generate(&context, request);
    v1::GenerateResponse message;
    while (reader->Read(&message) && !message.has_chunk()) {
    }
    context.TryCancel();  // a broken stream
    reader->Finish();
  }
  second = Generate(request);
  ASSERT_TRUE(second.status.ok()) << second.status.error_message();
  EXPECT_EQ(second.ids, Chain({301}, 100));
  EXPECT_EQ(workers_[0]->assigned(), 1u) << "computed once";

  v1::ResumeRequest resume;
  resume.set_idempotency_key("k");
  resume.set_next_index(90);
  grpc::ClientContext context;
  auto reader = stub_->Resume(&context, resume);
  v1::ResumeResponse message;
  Answer rest;
  Drain(*reader, message, &rest, 90);
  ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
  EXPECT_EQ(rest.ids.size(), 10u);
  EXPECT_TRUE(rest.finished);

  request.mutable_token_ids()->add_ids(302);
  EXPECT_EQ(Reason(Generate(request).status), "INVALID_PARAMETER") << "the same key, another question";
  grpc::ClientContext unknown_context;
  resume.set_request_id("00000000000000000000000000000001");
  auto unknown = stub_->Resume(&unknown_context, resume);
  EXPECT_FALSE(unknown->Read(&message));
  EXPECT_EQ(Reason(unknown->Finish()), "RESUME_UNKNOWN");
}

TEST_F(RpcTest, RepeatedTokensAreDeliveredOnceAndAHoleIsAFault) {
  FakeWorker& worker = AddWorker({.step = std::chrono::milliseconds(2)});
  ASSERT_TRUE(WaitReady());
  std::thread meddler([&] {
    for (int i = 0; i < 20; ++i) worker.RepeatEverything(), absl::SleepFor(absl::Milliseconds(3));
  });
  EXPECT_EQ(Generate(Ask({301}, 100)).ids, Chain({301}, 100));
  meddler.join();
  std::thread skipper([&] {
    Eventually([&] { return worker.running() == 1; });
    worker.SkipOne();
  });
  const Answer answer = Generate(Ask({301}, 500));
  skipper.join();
  EXPECT_EQ(Reason(answer.status), "ENGINE_FAULT") << answer.status.error_message();
}

TEST_F(RpcTest, ManyStreamsWithRandomEndsAllEndOnce) {
  AddWorker({.index = 0, .step = std::chrono::microseconds(500), .max_sequences = 16});
  ASSERT_TRUE(WaitReady());
  constexpr int kStreams = 64;
  std::atomic<int> ended{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kStreams; ++i) {
    threads.emplace_back([&, i] {
      std::mt19937 random(i);
      std::vector<uint32_t> prompt;
      for (uint32_t n = 1 + random() % 40; n > 0; --n) prompt.push_back(300 + random() % 200);
      const uint32_t max_tokens = 1 + random() % 200;
      const auto expected = Chain(prompt, max_tokens);
      grpc::ClientContext context;
      if (i % 4 == 1) context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Milliseconds(random() % 400)));
      auto reader = stub_->Generate(&context, Ask(prompt, max_tokens));
      v1::GenerateResponse message;
      const size_t leave_at = i % 4 == 2 ? random() % max_tokens : SIZE_MAX;
      std::vector<uint32_t> ids;
      bool finished = false;
      while (reader->Read(&message)) {
        EXPECT_FALSE(finished);
        finished = message.has_finished();
        if (message.has_chunk()) {
          EXPECT_EQ(message.chunk().offset(), ids.size());
          ids.insert(ids.end(), message.chunk().token_ids().begin(), message.chunk().token_ids().end());
        }
        if (ids.size() >= leave_at) context.TryCancel();
      }
      const grpc::Status status = reader->Finish();
      EXPECT_EQ(ids, std::vector<uint32_t>(expected.begin(), expected.begin() + ids.size())) << "stream " << i;
      EXPECT_EQ(status.ok(), finished);
      if (i % 4 == 0 || i % 4 == 3) {
        EXPECT_TRUE(status.ok()) << status.error_message();
        EXPECT_EQ(ids.size(), max_tokens);
      }
      ++ended;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(ended, kStreams);
}

TEST_F(RpcTest, AWorkerThatDiesLeavesItsRequestsToAnother) {
  FakeWorker& worker = AddWorker({.step = std::chrono::milliseconds(5)});
  ASSERT_TRUE(WaitReady());
  std::thread killer([&] {
    Eventually([&] { return worker.running() == 1; });
    worker.Die();
    // A second process for a device is refused as long as the first one's stream is open.
    Eventually(
        [&] { return Look<bool>([](const core::Core& core) { return !core.state().devices.front().attached; }); });
    AddWorker();
  });
  const Answer answer = Generate(Ask({301}, 1000));
  killer.join();
  EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.ids.size(), 1000u);
}

TEST_F(RpcTest, ASecondProcessForADeviceAndAnotherProtocolAreRefused) {
  AddWorker();
  ASSERT_TRUE(WaitReady());
  FakeWorker& second = AddWorker();
  EXPECT_TRUE(Eventually([&] { return !second.end().ok(); }));
  EXPECT_EQ(second.end().error_code(), grpc::StatusCode::FAILED_PRECONDITION) << second.end().error_message();

  auto stub = v1::WorkerService::NewStub(Channel(server_->workers_port()));
  grpc::ClientContext context;
  auto attach = stub->Attach(&context);
  v1::AttachRequest message;
  message.mutable_hello()->set_protocol_min(2);
  message.mutable_hello()->set_protocol_max(3);
  attach->Write(message);
  v1::AttachResponse answer;
  EXPECT_FALSE(attach->Read(&answer));
  EXPECT_THAT(attach->Finish().error_message(), HasSubstr("protocol 2 to 3"));
}

TEST_F(RpcTest, OperatorsSeeCordonAndDrain) {
  AddWorker({.step = std::chrono::milliseconds(2)});
  ASSERT_TRUE(WaitReady());
  v1::GetStatusResponse status;
  grpc::ClientContext status_context;
  ASSERT_TRUE(admin_->GetStatus(&status_context, {}, &status).ok());
  EXPECT_TRUE(status.ready());
  ASSERT_EQ(status.devices_size(), 1);
  EXPECT_EQ(status.devices(0).name(), "nodes/box/devices/0");

  for (const std::string name : {"0", "box/0", "nodes/box/devices/0", "gpu/0", "CPU-box-0", "cpu-b"}) {
    grpc::ClientContext context;
    v1::GetDeviceRequest request;
    v1::GetDeviceResponse response;
    request.set_name(name);
    EXPECT_TRUE(admin_->GetDevice(&context, request, &response).ok()) << name;
  }
  {
    grpc::ClientContext context;
    v1::CordonDeviceRequest request;
    v1::CordonDeviceResponse response;
    request.set_name("0");
    request.mutable_mutation()->set_etag("old");
    EXPECT_EQ(admin_->CordonDevice(&context, request, &response).error_code(), grpc::StatusCode::ABORTED);
  }
  const auto drain = [&](bool force, bool validate_only) {
    grpc::ClientContext context;
    v1::DrainDeviceRequest request;
    request.set_name("0");
    request.set_force(force);
    request.set_on_deadline(v1::WAIT);
    request.mutable_mutation()->set_reason("test");
    request.mutable_mutation()->set_validate_only(validate_only);
    auto reader = admin_->DrainDevice(&context, request);
    v1::DrainDeviceResponse response;
    bool done = false;
    while (reader->Read(&response)) done = response.progress().done();
    const grpc::Status end = reader->Finish();
    EXPECT_EQ(end.ok(), done);
    return Reason(end);
  };
  EXPECT_EQ(drain(false, false), "WOULD_LOSE_LAST_REPLICA");
  EXPECT_EQ(drain(false, true), "WOULD_LOSE_LAST_REPLICA");
  Answer answer;
  std::thread client([&] { answer = Generate(Ask({301}, 50)); });
  ASSERT_TRUE(Eventually([&] { return workers_[0]->running() == 1; }));
  EXPECT_EQ(drain(true, false), "");
  client.join();
  EXPECT_TRUE(answer.status.ok()) << "a drain lets what runs end: " << answer.status.error_message();
  {
    grpc::ClientContext context;
    v1::UndrainDeviceRequest request;
    v1::UndrainDeviceResponse response;
    request.set_name("0");
    ASSERT_TRUE(admin_->UndrainDevice(&context, request, &response).ok());
  }
  AddWorker();  // the one before it parked
  EXPECT_TRUE(WaitReady()) << "an undrained device serves again";
}

TEST_F(RpcTest, EventsAreNumberedWithoutGaps) {
  AddWorker();
  ASSERT_TRUE(WaitReady());
  grpc::ClientContext context;
  v1::WatchEventsRequest request;
  request.set_from_sequence(1);
  auto reader = admin_->WatchEvents(&context, request);
  v1::WatchEventsResponse response;
  for (uint64_t i = 1; i < server_->events().next_sequence(); ++i) {
    ASSERT_TRUE(reader->Read(&response));
    EXPECT_EQ(response.event().sequence(), i);
    EXPECT_FALSE(response.event().text().empty());
  }
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(RpcTest, AShutdownLetsWhatRunsEnd) {
  AddWorker({.step = std::chrono::milliseconds(2)});
  ASSERT_TRUE(WaitReady());
  Answer answer;
  std::thread client([&] { answer = Generate(Ask({301}, 50)); });
  ASSERT_TRUE(Eventually([&] { return workers_[0]->running() == 1; }));
  stopped_ = true;
  server_->Shutdown(absl::Seconds(30));
  client.join();
  EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.ids.size(), 50u);
}

TEST_F(RpcTest, AShutdownCutsOffWhatDoesNotEnd) {
  FakeWorker& worker = AddWorker();
  ASSERT_TRUE(WaitReady());
  worker.Freeze(true);
  Answer answer;
  std::thread client([&] { answer = Generate(Ask({301}, 50)); });
  ASSERT_TRUE(Eventually([&] { return worker.running() == 1; }));
  stopped_ = true;
  const absl::Time begin = absl::Now();
  server_->Shutdown(absl::Milliseconds(50));
  client.join();
  EXPECT_EQ(Reason(answer.status), "DRAINING") << answer.status.error_message();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(10));
}

}  // namespace
}  // namespace tandem::testing
