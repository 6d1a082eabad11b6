// The scheduler behind its real doors, with workers that compute nothing: every path of a request over gRPC.
#include "tests/rpc/rpc_test.h"

#include <gmock/gmock.h>

#include <atomic>
#include <random>
#include <thread>

namespace tandem::testing {
namespace {

using ::testing::HasSubstr;

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
  FakeWorker& worker = AddWorker({.step = std::chrono::milliseconds(50)});
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
  AddWorker({.step = std::chrono::milliseconds(50)});
  ASSERT_TRUE(WaitReady());
  grpc::ClientContext context, abort_context;
  auto reader = stub_->Generate(&context, Ask({301}, 500));
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  v1::AbortRequest abort;
  v1::AbortResponse aborted;
  abort.add_request_ids(message.has_accepted() ? message.accepted().request_id() : message.progress().request_id());
  abort.add_request_ids("00000000000000000000000000000000");
  ASSERT_TRUE(stub_->Abort(&abort_context, abort, &aborted).ok());
  EXPECT_EQ(aborted.aborted_size(), 1);
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(RpcTest, ATenantAbortsItsOwnRequestsOnly) {
  AddWorker({.step = std::chrono::milliseconds(50)});
  ASSERT_TRUE(WaitReady());
  grpc::ClientContext context;
  auto request = Ask({301}, 500);
  request.set_tenant("a");
  auto reader = stub_->Generate(&context, request);
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  v1::AbortRequest abort;
  abort.add_request_ids(message.has_accepted() ? message.accepted().request_id() : message.progress().request_id());
  const auto aborted_by = [&](const std::string& tenant) {
    grpc::ClientContext abort_context;
    v1::AbortResponse aborted;
    abort.set_tenant(tenant);
    EXPECT_TRUE(stub_->Abort(&abort_context, abort, &aborted).ok());
    return aborted.aborted_size();
  };
  EXPECT_EQ(aborted_by("b"), 0);
  EXPECT_EQ(aborted_by(""), 0);
  EXPECT_EQ(aborted_by("a"), 1);
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

  const auto asked_again = [&](const std::function<void(v1::GenerateRequest&)>& change) {
    v1::GenerateRequest other = request;
    change(other);
    return Reason(Generate(other).status);
  };
  EXPECT_EQ(asked_again([](auto& r) { r.mutable_token_ids()->add_ids(302); }), "INVALID_PARAMETER");
  EXPECT_EQ(asked_again([](auto& r) { r.mutable_stopping()->set_max_tokens(50); }), "INVALID_PARAMETER");
  EXPECT_EQ(asked_again([](auto& r) { r.set_logprobs(1); }), "INVALID_PARAMETER");
  const uint64_t seed = second.seed;
  EXPECT_EQ(asked_again([&](auto& r) { r.mutable_sampling()->set_seed(seed + 1); }), "INVALID_PARAMETER");
  EXPECT_EQ(asked_again([&](auto& r) { r.mutable_sampling()->set_seed(seed); }), "") << "the seed that Accepted named";
  EXPECT_EQ(asked_again([](auto& r) { r.set_chunk_interval_ms(20), r.set_priority(1); }), "");
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
  worker.SkipAt(50);
  const Answer answer = Generate(Ask({301}, 500));
  EXPECT_EQ(Reason(answer.status), "ENGINE_FAULT") << answer.status.error_message();
  ExpectNothingLeft();  // the worker has let go of it
  // One whose only token is missing is found out at its end.
  worker.SkipAt(0);
  EXPECT_EQ(Reason(Generate(Ask({301}, 1)).status), "ENGINE_FAULT");
  ASSERT_TRUE(Eventually([&] { return server_->store().living() == 0; }));
  const auto counters = Look<core::Counters>([](const core::Core& core) { return core.state().counters; });
  EXPECT_EQ(counters.spoiled, 2u);
  EXPECT_EQ(counters.failed, 2u);
  EXPECT_EQ(counters.aborted_client_left, 0u) << "its client did not leave";
  EXPECT_EQ(counters.cancelled, 0u);
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
      if (i % 4 == 0 || i % 4 == 3) {
        EXPECT_TRUE(status.ok() && finished) << "stream " << i << ": " << status.error_message();
        EXPECT_EQ(ids.size(), max_tokens) << "stream " << i;
      } else if (status.ok()) {
        EXPECT_TRUE(finished) << "stream " << i;
      } else {
        // May be after the last message: what the client does falls when it falls.
        EXPECT_EQ(status.error_code(), i % 4 == 1 ? grpc::StatusCode::DEADLINE_EXCEEDED : grpc::StatusCode::CANCELLED)
            << "stream " << i << ": " << status.error_message();
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
  workers_[0]->Freeze(true);
  std::thread client([&] { answer = Generate(Ask({301}, 50)); });
  EXPECT_TRUE(Eventually([&] { return workers_[0]->running() == 1; }));
  std::thread thaw([&] {
    EXPECT_TRUE(
        Eventually([&] { return Look<bool>([](const core::Core& core) { return !core.state().drains.empty(); }); }));
    workers_[0]->Freeze(false);
  });
  EXPECT_EQ(drain(true, false), "");
  thaw.join();
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
  const uint64_t first = uint64_t{1} << 32 | 1;  // of leader 1
  ASSERT_GT(server_->events().next_sequence(), first);
  for (uint64_t i = first; i < server_->events().next_sequence(); ++i) {
    ASSERT_TRUE(reader->Read(&response));
    EXPECT_EQ(response.event().sequence(), i);
    EXPECT_FALSE(response.event().text().empty());
  }
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

// A reader that comes back must learn that something was missed, not get other events under the numbers it asks for.
TEST_F(RpcTest, EventsOfAnotherLeaderAreNotFound) {
  AddWorker();
  ASSERT_TRUE(WaitReady());
  const uint64_t next = server_->events().next_sequence();
  for (const uint64_t from : {uint64_t{7}, next + 1000, uint64_t{9} << 32 | 1}) {
    grpc::ClientContext context;
    v1::WatchEventsRequest request;
    request.set_from_sequence(from);
    auto reader = admin_->WatchEvents(&context, request);
    v1::WatchEventsResponse response;
    EXPECT_FALSE(reader->Read(&response));
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::NOT_FOUND) << from;
  }
}

TEST_F(RpcTest, ADrainChecksItsEtag) {
  AddWorker();
  ASSERT_TRUE(WaitReady());
  const auto drain = [&](const std::string& etag) {
    grpc::ClientContext context;
    v1::DrainDeviceRequest request;
    request.set_name("0");
    request.mutable_mutation()->set_reason("test");
    request.mutable_mutation()->set_etag(etag);
    request.mutable_mutation()->set_validate_only(true);
    request.set_force(true);
    auto reader = admin_->DrainDevice(&context, request);
    v1::DrainDeviceResponse response;
    while (reader->Read(&response)) {
    }
    return reader->Finish();
  };
  grpc::ClientContext context;
  v1::GetDeviceRequest request;
  request.set_name("0");
  v1::GetDeviceResponse device;
  ASSERT_TRUE(admin_->GetDevice(&context, request, &device).ok());
  const grpc::Status same = drain(device.device().etag());
  EXPECT_TRUE(same.ok()) << same.error_message();
  const grpc::Status other = drain("0123456789abcdef");
  EXPECT_FALSE(other.ok());
  EXPECT_THAT(other.error_message(), testing::HasSubstr("has changed: its etag is " + device.device().etag()));
}

TEST_F(RpcTest, AShutdownLetsWhatRunsEnd) {
  FakeWorker& worker = AddWorker({.step = std::chrono::milliseconds(20)});
  ASSERT_TRUE(WaitReady());
  Answer answer;
  worker.Freeze(true);
  std::thread client([&] { answer = Generate(Ask({301}, 50)); });
  EXPECT_TRUE(Eventually([&] { return worker.running() == 1; }));
  worker.Freeze(false);
  stopped_ = true;
  server_->Drain(absl::Seconds(30));
  server_->Shutdown();
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
  EXPECT_TRUE(Eventually([&] { return worker.running() == 1; }));
  stopped_ = true;
  const absl::Time begin = absl::Now();
  server_->Drain(absl::Milliseconds(50));
  server_->Shutdown();
  client.join();
  EXPECT_EQ(Reason(answer.status), "DRAINING") << answer.status.error_message();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(30));
}

}  // namespace
}  // namespace tandem::testing
