#include "client/async_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "client/error.h"
#include "client/fake_scheduler.h"

namespace tandem::client {
namespace {

using Writer = FakeScheduler::Writer;

v1::GenerateRequest Prompt() {
  v1::GenerateRequest request;
  request.set_model("m");
  request.set_text("once");
  return request;
}

// What a handler was given, for the test's thread to wait for.
class Inbox {
 public:
  std::function<void(StreamEvent)> Handler() {
    return [this](StreamEvent event) {
      absl::MutexLock lock(&mu_);
      events_.push_back(std::move(event));
    };
  }
  StreamEvent Take() {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(
        +[](std::deque<StreamEvent>* events) { return !events->empty(); }, &events_));
    StreamEvent event = std::move(events_.front());
    events_.pop_front();
    return event;
  }
  size_t size() {
    absl::MutexLock lock(&mu_);
    return events_.size();
  }

 private:
  absl::Mutex mu_;
  std::deque<StreamEvent> events_;
};

using End = absl::StatusOr<GenerateResult>;

class AsyncClientTest : public ::testing::Test {
 protected:
  // Reads to the end: the text, and how it ended.
  End Drain(AsyncStream& stream, std::string* text) {
    while (true) {
      stream.Next();
      StreamEvent event = inbox_.Take();
      if (auto* chunk = std::get_if<v1::Chunk>(&event)) *text += chunk->text();
      if (auto* end = std::get_if<End>(&event)) return *end;
    }
  }

  FakeScheduler scheduler_;
  Inbox inbox_;  // outlives the client, whose handlers write to it
  AsyncClient client_{scheduler_.address()};
};

TEST_F(AsyncClientTest, OneEventForEachQuestion) {
  scheduler_.on_generate = [](int, grpc::ServerContext& context, const v1::GenerateRequest&, Writer& writer) {
    EXPECT_EQ(context.client_metadata().find("x-request-id")->second, "r1");
    FakeScheduler::Accept(writer);
    FakeScheduler::Send(writer, 0, "upon ", {5, 6});
    FakeScheduler::Send(writer, 2, "a time", {7});
    return FakeScheduler::Finish(writer, 3);
  };
  AsyncStream stream =
      client_.Generate(Prompt(), {.metadata = {{"x-request-id", "r1"}, {"Bad Key", "x"}}}, inbox_.Handler());
  stream.Next();
  EXPECT_TRUE(std::holds_alternative<v1::Accepted>(inbox_.Take()));
  EXPECT_EQ(inbox_.size(), 0u) << "nobody asked for more";
  std::string text;
  const End end = Drain(stream, &text);
  EXPECT_EQ(text, "upon a time");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(end->finished.usage().completion_tokens(), 3u);
}

TEST_F(AsyncClientTest, ABusySchedulerIsAskedAgain) {
  scheduler_.on_generate = [](int call, grpc::ServerContext&, const v1::GenerateRequest&, Writer& writer) {
    if (call < 3) return Failure(grpc::StatusCode::UNAVAILABLE, "QUEUE_FULL", "full", 1);
    FakeScheduler::Accept(writer);
    FakeScheduler::Send(writer, 0, "late", {5});
    return FakeScheduler::Finish(writer, 1);
  };
  AsyncStream stream = client_.Generate(Prompt(), {.retries = 4}, inbox_.Handler());
  std::string text;
  const End end = Drain(stream, &text);
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(text, "late");
  EXPECT_EQ(end->attempts, 3);
}

TEST_F(AsyncClientTest, ARefusalSaysWhyAndWhenToComeAgain) {
  scheduler_.on_generate = [](int, grpc::ServerContext&, const v1::GenerateRequest&, Writer&) {
    return Failure(grpc::StatusCode::UNAVAILABLE, "QUEUE_FULL", "full", 700);
  };
  AsyncStream stream = client_.Generate(Prompt(), {.retries = 0}, inbox_.Handler());
  std::string text;
  const End end = Drain(stream, &text);
  EXPECT_EQ(ErrorReason(end.status()), "QUEUE_FULL");
  EXPECT_EQ(RetryDelay(end.status()), absl::Milliseconds(700));
}

TEST_F(AsyncClientTest, ABrokenStreamGoesOnFromTheNextToken) {
  scheduler_.on_generate = [](int, grpc::ServerContext&, const v1::GenerateRequest&, Writer& writer) {
    FakeScheduler::Accept(writer);
    FakeScheduler::Send(writer, 0, "half ", {5});
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "Socket closed");
  };
  scheduler_.on_resume = [](int, const v1::ResumeRequest& request, FakeScheduler::ResumeWriter& writer) {
    EXPECT_EQ(request.next_index(), 1u);
    v1::ResumeResponse response;
    response.mutable_chunk()->set_offset(1);
    response.mutable_chunk()->set_text("and whole");
    response.mutable_chunk()->add_token_ids(6);
    writer.Write(response);
    response.mutable_finished()->set_reason(v1::STOP);
    writer.Write(response);
    return grpc::Status::OK;
  };
  AsyncStream stream = client_.Generate(Prompt(), {}, inbox_.Handler());
  std::string text;
  const End end = Drain(stream, &text);
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(text, "half and whole");
  EXPECT_EQ(end->resumes, 1);
}

TEST_F(AsyncClientTest, AStreamThatFallsSilentIsTakenUpAgain) {
  scheduler_.on_generate = [](int, grpc::ServerContext& context, const v1::GenerateRequest&, Writer& writer) {
    FakeScheduler::Accept(writer);
    FakeScheduler::Send(writer, 0, "half ", {5});
    return FakeScheduler::UntilCancelled(context);
  };
  scheduler_.on_resume = [](int, const v1::ResumeRequest& request, FakeScheduler::ResumeWriter& writer) {
    EXPECT_EQ(request.next_index(), 1u);
    v1::ResumeResponse response;
    response.mutable_finished()->set_reason(v1::STOP);
    writer.Write(response);
    return grpc::Status::OK;
  };
  AsyncStream stream = client_.Generate(Prompt(), {.most_silence = absl::Milliseconds(500)}, inbox_.Handler());
  std::string text;
  const End end = Drain(stream, &text);
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(text, "half ");
  EXPECT_EQ(end->resumes, 1);
}

TEST_F(AsyncClientTest, AMissingTokenEndsIt) {
  scheduler_.on_generate = [](int, grpc::ServerContext& context, const v1::GenerateRequest&, Writer& writer) {
    FakeScheduler::Accept(writer);
    FakeScheduler::Send(writer, 3, "b", {4});
    return FakeScheduler::UntilCancelled(context);
  };
  AsyncStream stream = client_.Generate(Prompt(), {}, inbox_.Handler());
  std::string text;
  EXPECT_EQ(Drain(stream, &text).status().code(), absl::StatusCode::kInternal);
}

TEST_F(AsyncClientTest, WhoLeavesIsHeardInEveryPhase) {
  std::atomic<int> cancelled = 0;
  scheduler_.on_generate = [&](int call, grpc::ServerContext& context, const v1::GenerateRequest&, Writer& writer) {
    if (call == 2) FakeScheduler::Accept(writer);
    const grpc::Status status = FakeScheduler::UntilCancelled(context);
    ++cancelled;
    return status;
  };
  {
    AsyncStream waiting = client_.Generate(Prompt(), {}, inbox_.Handler());
    waiting.Next();
    while (scheduler_.generate_calls == 0) absl::SleepFor(absl::Milliseconds(1));
  }
  {
    AsyncStream accepted = client_.Generate(Prompt(), {}, inbox_.Handler());
    accepted.Next();
    inbox_.Take();
  }
  { AsyncStream unasked = client_.Generate(Prompt(), {}, inbox_.Handler()); }
  for (int i = 0; i < 30'000 && (cancelled < 2 || scheduler_.aborted_keys < 2); ++i) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_GE(cancelled, 2);
  EXPECT_GE(scheduler_.aborted_keys, 2);
  EXPECT_EQ(scheduler_.generate_calls, 2);
  EXPECT_EQ(inbox_.size(), 0u);
}

TEST_F(AsyncClientTest, OneWhoLeavesWhileWaitingToTryAgainIsForgotten) {
  scheduler_.on_generate = [](int, grpc::ServerContext&, const v1::GenerateRequest&, Writer&) {
    return Failure(grpc::StatusCode::UNAVAILABLE, "QUEUE_FULL", "full", 999);
  };
  AsyncStream stream = client_.Generate(Prompt(), {}, inbox_.Handler());
  stream.Next();
  while (scheduler_.generate_calls == 0) absl::SleepFor(absl::Milliseconds(1));
  absl::SleepFor(absl::Milliseconds(20));  // for the refusal to come back; either way it must end cleanly
  stream.Cancel();
}

TEST_F(AsyncClientTest, UnaryCallsAnswerOrSayWhyNot) {
  absl::Notification done;
  v1::TokenizeRequest request;
  request.set_text("ab");
  client_.Tokenize(request, {}, [&](absl::StatusOr<v1::TokenizeResponse> response) {
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_THAT(response->token_ids(), ::testing::ElementsAre('a', 'b'));
    done.Notify();
  });
  done.WaitForNotification();
  absl::Notification refused;
  client_.ListModels({}, {}, [&](absl::StatusOr<v1::ListModelsResponse> response) {
    EXPECT_EQ(ErrorReason(response.status()), "MODEL_LOADING");
    refused.Notify();
  });
  refused.WaitForNotification();
}

}  // namespace
}  // namespace tandem::client
