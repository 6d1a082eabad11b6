#include "client/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "client/error.h"
#include "client/fake_scheduler.h"

namespace tandem::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Writer = FakeScheduler::Writer;

class ClientTest : public ::testing::Test {
 protected:
  ClientTest() {
    auto client = Client::Connect(scheduler_.address());
    EXPECT_TRUE(client.ok()) << client.status();
    client_ = std::move(*client);
  }

  static v1::GenerateRequest Prompt(const std::string& text = "once") {
    v1::GenerateRequest request;
    request.set_model("m");
    request.set_text(text);
    return request;
  }
  // Reads to the end and returns the text.
  static std::string Drain(TokenStream& stream) {
    std::string text;
    while (const auto chunk = stream.Next()) text += chunk->text();
    return text;
  }

  FakeScheduler scheduler_;
  std::unique_ptr<Client> client_;
};

TEST_F(ClientTest, StreamsTextAndSaysHowItEnded) {
  scheduler_.on_generate = [](int, grpc::ServerContext&, const v1::GenerateRequest& request, Writer& writer) {
    EXPECT_EQ(request.text(), "once");
    FakeScheduler::Accept(writer);
    FakeScheduler::Send(writer, 0, "upon ", {5, 6});
    FakeScheduler::Send(writer, 2, "a time", {7});
    return FakeScheduler::Finish(writer, 3);
  };
  TokenStream stream = client_->Generate(Prompt());
  EXPECT_EQ(Drain(stream), "upon a time");
  ASSERT_TRUE(stream.Result().ok()) << stream.Result().status();
  EXPECT_EQ(stream.Result()->finished.reason(), v1::LENGTH);
  EXPECT_EQ(stream.Result()->finished.usage().completion_tokens(), 3u);
  EXPECT_EQ(stream.Result()->accepted.group(), "groups/7");
  EXPECT_EQ(stream.Result()->attempts, 1);
  EXPECT_FALSE(stream.Next().has_value()) << "the end stays the end";
}

TEST_F(ClientTest, AMissingTokenIsNoticed) {
  scheduler_.on_generate = [](int, grpc::ServerContext& context, const v1::GenerateRequest&, Writer& writer) {
    FakeScheduler::Send(writer, 0, "a", {1, 2});
    FakeScheduler::Send(writer, 3, "b", {4});
    return FakeScheduler::UntilCancelled(context);
  };
  TokenStream stream = client_->Generate(Prompt());
  EXPECT_EQ(Drain(stream), "a");
  EXPECT_EQ(stream.Result().status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(stream.Result().status().message()), HasSubstr("begins at token 3, expected 2"));
}

TEST_F(ClientTest, ARepeatedTokenIsNoticed) {
  scheduler_.on_generate = [](int, grpc::ServerContext& context, const v1::GenerateRequest&, Writer& writer) {
    FakeScheduler::Send(writer, 0, "a", {1, 2});
    FakeScheduler::Send(writer, 1, "b", {2});
    return FakeScheduler::UntilCancelled(context);
  };
  TokenStream stream = client_->Generate(Prompt());
  EXPECT_EQ(Drain(stream), "a");
  EXPECT_EQ(stream.Result().status().code(), absl::StatusCode::kInternal);
}

TEST_F(ClientTest, ResumedTokensAreNotSentAgain) {
  scheduler_.on_generate = [](int, grpc::ServerContext&, const v1::GenerateRequest&, Writer& writer) {
    FakeScheduler::Send(writer, 2, "c", {3});
    return FakeScheduler::Finish(writer, 3);
  };
  v1::GenerateRequest request = Prompt();
  request.add_resume_token_ids(1);
  request.add_resume_token_ids(2);
  TokenStream stream = client_->Generate(request);
  EXPECT_EQ(Drain(stream), "c");
  EXPECT_TRUE(stream.Result().ok()) << stream.Result().status();
}

TEST_F(ClientTest, TriesAgainBeforeTheFirstTokenWhenTheSchedulerSaysLater) {
  scheduler_.on_generate = [](int call, grpc::ServerContext&, const v1::GenerateRequest&, Writer& writer) {
    if (call == 1) return Failure(grpc::StatusCode::UNAVAILABLE, "QUEUE_FULL", "full", /*retry_ms=*/20);
    if (call == 2) {
      FakeScheduler::Accept(writer, "the attempt that was lost");
      return Failure(grpc::StatusCode::UNAVAILABLE, "WORKER_LOST", "lost", /*retry_ms=*/1);
    }
    FakeScheduler::Accept(writer, "the attempt that counts");
    FakeScheduler::Send(writer, 0, "a", {1});
    return FakeScheduler::Finish(writer, 1);
  };
  const absl::Time begin = absl::Now();
  TokenStream stream = client_->Generate(Prompt());
  EXPECT_EQ(Drain(stream), "a");
  ASSERT_TRUE(stream.Result().ok()) << stream.Result().status();
  EXPECT_EQ(stream.Result()->attempts, 3);
  EXPECT_EQ(stream.Result()->accepted.request_id(), "the attempt that counts");
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(21)) << "it came back sooner than it was asked to";
}

const grpc::Status kBroken(grpc::StatusCode::UNAVAILABLE, "Socket closed");

void SendResumed(FakeScheduler::ResumeWriter& writer, uint32_t offset, const std::string& text,
                 std::initializer_list<uint32_t> ids) {
  v1::ResumeResponse response;
  response.mutable_chunk()->set_offset(offset);
  response.mutable_chunk()->set_text(text);
  for (const uint32_t id : ids) response.mutable_chunk()->add_token_ids(id);
  writer.Write(response);
}
void FinishResumed(FakeScheduler::ResumeWriter& writer) {
  v1::ResumeResponse response;
  response.mutable_finished()->set_reason(v1::LENGTH);
  writer.Write(response);
}

TEST_F(ClientTest, AStreamThatBreaksIsResumedWhereItWas) {
  scheduler_.on_generate = [](int, grpc::ServerContext&, const v1::GenerateRequest& request, Writer& writer) {
    EXPECT_FALSE(request.idempotency_key().empty()) << "so that the request outlives its stream";
    FakeScheduler::Accept(writer, "abc");
    FakeScheduler::Send(writer, 0, "one ", {1});
    return kBroken;
  };
  scheduler_.on_resume = [](int call, const v1::ResumeRequest& request, FakeScheduler::ResumeWriter& writer) {
    EXPECT_EQ(request.request_id(), "abc");
    EXPECT_EQ(request.next_index(), static_cast<uint32_t>(call));
    if (call == 1) {
      SendResumed(writer, 1, "two ", {2});
      return kBroken;
    }
    SendResumed(writer, 2, "three", {3});
    FinishResumed(writer);
    return grpc::Status::OK;
  };
  std::vector<size_t> broke_after;
  GenerateOptions options;
  options.on_resume = [&](const absl::Status&, size_t tokens) { broke_after.push_back(tokens); };
  TokenStream stream = client_->Generate(Prompt(), options);
  EXPECT_EQ(Drain(stream), "one two three");
  ASSERT_TRUE(stream.Result().ok()) << stream.Result().status();
  EXPECT_EQ(stream.Result()->resumes, 2);
  EXPECT_THAT(broke_after, ElementsAre(1u, 2u));
  EXPECT_EQ(scheduler_.generate_calls, 1);
}

TEST_F(ClientTest, AStreamThatFallsSilentIsTakenUpAgain) {
  scheduler_.on_generate = [](int, grpc::ServerContext& context, const v1::GenerateRequest&, Writer& writer) {
    FakeScheduler::Accept(writer);
    FakeScheduler::Send(writer, 0, "a", {1});
    return FakeScheduler::UntilCancelled(context);
  };
  scheduler_.on_resume = [](int, const v1::ResumeRequest& request, FakeScheduler::ResumeWriter& writer) {
    EXPECT_EQ(request.next_index(), 1u);
    v1::ResumeResponse response;
    response.mutable_finished()->set_reason(v1::STOP);
    writer.Write(response);
    return grpc::Status::OK;
  };
  std::string why;
  const auto remember = [&](const absl::Status& status, size_t) { why = std::string(status.message()); };
  TokenStream stream = client_->Generate(Prompt(), {.most_silence = absl::Milliseconds(500), .on_resume = remember});
  EXPECT_EQ(Drain(stream), "a");
  ASSERT_TRUE(stream.Result().ok()) << stream.Result().status();
  EXPECT_EQ(stream.Result()->resumes, 1);
  EXPECT_EQ(why, "nothing was heard from the scheduler for 500ms");
}

// It was there when the call was made, and went away before a word of it: it is back within a second or so, which the
// repetitions for one that was never there would not wait for.
TEST_F(ClientTest, WhoMayHaveHadTheRequestIsWaitedFor) {
  scheduler_.on_generate = [](int call, grpc::ServerContext&, const v1::GenerateRequest&, Writer& writer) {
    if (call <= 7) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "Socket closed");
    FakeScheduler::Accept(writer);
    return FakeScheduler::Finish(writer, 0);
  };
  TokenStream stream = client_->Generate(Prompt(), {.retries = 1, .first_backoff = absl::Milliseconds(1)});
  Drain(stream);
  ASSERT_TRUE(stream.Result().ok()) << stream.Result().status();
  EXPECT_EQ(stream.Result()->attempts, 8);
}

TEST_F(ClientTest, SilenceBeforeTheFirstTokenIsAskedAgain) {
  scheduler_.on_generate = [](int call, grpc::ServerContext& context, const v1::GenerateRequest&, Writer& writer) {
    if (call == 1) return FakeScheduler::UntilCancelled(context);
    FakeScheduler::Accept(writer);
    return FakeScheduler::Finish(writer, 0);
  };
  TokenStream stream = client_->Generate(Prompt(), {.most_silence = absl::Milliseconds(500)});
  Drain(stream);
  ASSERT_TRUE(stream.Result().ok()) << stream.Result().status();
  EXPECT_GE(stream.Result()->attempts, 2);
}

TEST_F(ClientTest, WhoDoesNotReadHearsNoSilence) {
  scheduler_.on_generate = [](int, grpc::ServerContext&, const v1::GenerateRequest&, Writer& writer) {
    FakeScheduler::Accept(writer);
    FakeScheduler::Send(writer, 0, "a", {1});
    FakeScheduler::Send(writer, 1, "b", {2});
    return FakeScheduler::Finish(writer, 2);
  };
  TokenStream stream = client_->Generate(Prompt(), {.most_silence = absl::Seconds(3)});
  ASSERT_TRUE(stream.Next().has_value());
  absl::SleepFor(absl::Seconds(4));  // longer than a silence may be
  EXPECT_EQ(Drain(stream), "b");
  ASSERT_TRUE(stream.Result().ok()) << stream.Result().status();
  EXPECT_EQ(stream.Result()->attempts, 1);
}

TEST_F(ClientTest, WhereEveryLogIsLostItGoesOnFromItsOwnTokensAndTheFirstSeed) {
  std::string first_key;
  scheduler_.on_generate = [&](int call, grpc::ServerContext&, const v1::GenerateRequest& request, Writer& writer) {
    if (call == 1) {
      first_key = request.idempotency_key();
      FakeScheduler::Accept(writer, "lost");
      FakeScheduler::Send(writer, 0, "one two ", {1, 2});
      return kBroken;
    }
    EXPECT_THAT(request.resume_token_ids(), ElementsAre(1u, 2u));
    EXPECT_EQ(request.sampling().seed(), 42u);
    EXPECT_NE(request.idempotency_key(), first_key);
    if (call == 2) return Failure(grpc::StatusCode::UNAVAILABLE, "MODEL_LOADING", "soon", /*retry_ms=*/1);
    FakeScheduler::Accept(writer, "another");
    FakeScheduler::Send(writer, 2, "three", {3});
    return FakeScheduler::Finish(writer, 3);
  };
  TokenStream stream = client_->Generate(Prompt());
  EXPECT_EQ(Drain(stream), "one two three");
  ASSERT_TRUE(stream.Result().ok()) << stream.Result().status();
  EXPECT_EQ(stream.Result()->resumes, 1) << "one break, however many calls";
  EXPECT_EQ(stream.Result()->accepted.request_id(), "another");
  EXPECT_EQ(scheduler_.resume_calls, 1);
}

TEST_F(ClientTest, ARequestThatFailedOnTheWayGoesOnAsAnother) {
  scheduler_.on_generate = [](int call, grpc::ServerContext&, const v1::GenerateRequest&, Writer& writer) {
    FakeScheduler::Accept(writer, call == 1 ? "failed" : "another");
    FakeScheduler::Send(writer, call - 1, "x", {static_cast<uint32_t>(call)});
    if (call == 1) return Failure(grpc::StatusCode::UNAVAILABLE, "WORKER_LOST", "moved too often", /*retry_ms=*/1);
    return FakeScheduler::Finish(writer, 2);
  };
  TokenStream stream = client_->Generate(Prompt());
  EXPECT_EQ(Drain(stream), "xx");
  EXPECT_TRUE(stream.Result().ok()) << stream.Result().status();
  EXPECT_EQ(scheduler_.resume_calls, 0) << "its failure would only be told again";
}

// The last token and the text behind it are here, how it ended is not: nothing of it comes twice.
TEST_F(ClientTest, ABreakBeforeTheLastWordDoublesNothing) {
  v1::GenerateRequest request = Prompt();
  request.mutable_stopping()->set_max_tokens(2);
  scheduler_.on_generate = [](int call, grpc::ServerContext&, const v1::GenerateRequest& request, Writer& writer) {
    FakeScheduler::Accept(writer, call == 1 ? "lost" : "another");
    if (call == 1) {
      FakeScheduler::Send(writer, 0, "ab", {1, 2});
      FakeScheduler::Send(writer, 2, "c", {});
      return kBroken;
    }
    EXPECT_THAT(request.resume_token_ids(), ElementsAre(1u)) << "or nothing would be left to compute";
    FakeScheduler::Send(writer, 1, "b", {2});
    FakeScheduler::Send(writer, 2, "c", {});
    return FakeScheduler::Finish(writer, 2);
  };
  TokenStream stream = client_->Generate(request);
  EXPECT_EQ(Drain(stream), "abc");
  EXPECT_TRUE(stream.Result().ok()) << stream.Result().status();
}

TEST_F(ClientTest, ATokenThatComesBackAsAnotherIsNoticed) {
  v1::GenerateRequest request = Prompt();
  request.mutable_stopping()->set_max_tokens(2);
  scheduler_.on_generate = [](int call, grpc::ServerContext&, const v1::GenerateRequest&, Writer& writer) {
    FakeScheduler::Accept(writer, call == 1 ? "lost" : "another");
    if (call == 1) {
      FakeScheduler::Send(writer, 0, "ab", {1, 2});
      return kBroken;
    }
    FakeScheduler::Send(writer, 1, "z", {26});
    return FakeScheduler::Finish(writer, 2);
  };
  TokenStream stream = client_->Generate(request);
  EXPECT_EQ(Drain(stream), "ab");
  EXPECT_THAT(std::string(stream.Result().status().message()), HasSubstr("token 1 came as 2 and again as 26"));
}

TEST_F(ClientTest, WhatItsOwnerLeavesIsNotComputedOn) {
  scheduler_.on_generate = [](int, grpc::ServerContext& context, const v1::GenerateRequest&, Writer& writer) {
    FakeScheduler::Send(writer, 0, "a", {1});
    return FakeScheduler::UntilCancelled(context);
  };
  {
    TokenStream stream = client_->Generate(Prompt());
    ASSERT_TRUE(stream.Next().has_value());
  }
  EXPECT_EQ(scheduler_.aborted_keys, 1) << "a request with a key outlives its call";
  v1::GenerateRequest shared = Prompt();
  shared.set_idempotency_key("of the caller");
  {
    TokenStream stream = client_->Generate(shared);
    ASSERT_TRUE(stream.Next().has_value());
  }
  EXPECT_EQ(scheduler_.aborted_keys, 1) << "another one may attach to it";
}

TEST_F(ClientTest, ResumesNothingWhereItIsToldNotTo) {
  scheduler_.on_generate = [](int, grpc::ServerContext&, const v1::GenerateRequest&, Writer& writer) {
    FakeScheduler::Send(writer, 0, "a", {1});
    return Failure(grpc::StatusCode::UNAVAILABLE, "WORKER_LOST", "rank 1 is gone", /*retry_ms=*/1);
  };
  TokenStream stream = client_->Generate(Prompt(), {.resumes = 0});
  EXPECT_EQ(Drain(stream), "a");
  EXPECT_EQ(ErrorReason(stream.Result().status()), "WORKER_LOST");
  EXPECT_EQ(scheduler_.generate_calls, 1);
}

TEST_F(ClientTest, NeverRepeatsWhatWouldFailAgain) {
  scheduler_.on_generate = [](int, grpc::ServerContext&, const v1::GenerateRequest&, Writer&) {
    return Failure(grpc::StatusCode::INVALID_ARGUMENT, "CONTEXT_LENGTH_EXCEEDED", "9 of 8 tokens");
  };
  TokenStream stream = client_->Generate(Prompt());
  Drain(stream);
  EXPECT_EQ(stream.Result().status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ErrorReason(stream.Result().status()), "CONTEXT_LENGTH_EXCEEDED");
  EXPECT_EQ(scheduler_.generate_calls, 1);
}

TEST_F(ClientTest, GivesUpAfterItsRetriesWithTheLastReason) {
  scheduler_.on_generate = [](int, grpc::ServerContext&, const v1::GenerateRequest&, Writer&) {
    return Failure(grpc::StatusCode::UNAVAILABLE, "NO_CAPACITY", "later", /*retry_ms=*/0);
  };
  GenerateOptions options;
  options.retries = 2;
  TokenStream stream = client_->Generate(Prompt(), options);
  Drain(stream);
  EXPECT_EQ(ErrorReason(stream.Result().status()), "NO_CAPACITY");
  EXPECT_EQ(ErrorMetadata(stream.Result().status())["waiting"], "7");
  EXPECT_EQ(RetryDelay(stream.Result().status()), absl::ZeroDuration());
  EXPECT_EQ(scheduler_.generate_calls, 3);
}

TEST_F(ClientTest, DoesNotWaitPastItsDeadlineToTryAgain) {
  scheduler_.on_generate = [](int, grpc::ServerContext&, const v1::GenerateRequest&, Writer&) {
    return Failure(grpc::StatusCode::UNAVAILABLE, "QUEUE_FULL", "full", /*retry_ms=*/20000);
  };
  GenerateOptions options;
  options.timeout = absl::Seconds(5);
  TokenStream stream = client_->Generate(Prompt(), options);
  Drain(stream);
  EXPECT_EQ(ErrorReason(stream.Result().status()), "QUEUE_FULL");
  EXPECT_EQ(scheduler_.generate_calls, 1);
}

TEST_F(ClientTest, ADeadlineEndsAStreamThatStandsStill) {
  scheduler_.on_generate = [](int, grpc::ServerContext& context, const v1::GenerateRequest&, Writer& writer) {
    FakeScheduler::Send(writer, 0, "a", {1});
    return FakeScheduler::UntilCancelled(context);
  };
  GenerateOptions options;
  options.timeout = absl::Milliseconds(200);
  TokenStream stream = client_->Generate(Prompt(), options);
  const std::string text = Drain(stream);
  EXPECT_TRUE(text == "a" || text.empty()) << text << ": who is slow hears nothing in time";
  EXPECT_EQ(stream.Result().status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(ErrorReason(stream.Result().status()), "DEADLINE_EXCEEDED");
}

TEST_F(ClientTest, CancelFromAnotherThreadEndsTheStream) {
  scheduler_.on_generate = [](int, grpc::ServerContext& context, const v1::GenerateRequest&, Writer& writer) {
    FakeScheduler::Send(writer, 0, "a", {1});
    return FakeScheduler::UntilCancelled(context);
  };
  TokenStream stream = client_->Generate(Prompt());
  ASSERT_TRUE(stream.Next().has_value());
  std::thread canceller([&stream] { stream.Cancel(); });
  EXPECT_FALSE(stream.Next().has_value());
  canceller.join();
  EXPECT_EQ(stream.Result().status().code(), absl::StatusCode::kCancelled);
}

TEST_F(ClientTest, CancelEndsTheWaitBeforeARetry) {
  scheduler_.on_generate = [](int, grpc::ServerContext&, const v1::GenerateRequest&, Writer&) {
    return Failure(grpc::StatusCode::UNAVAILABLE, "QUEUE_FULL", "full", /*retry_ms=*/60000);
  };
  GenerateOptions options;
  options.retries = 1000;
  options.most_backoff = absl::Hours(1);
  TokenStream stream = client_->Generate(Prompt(), options);
  std::thread canceller([&] {
    while (scheduler_.generate_calls == 0) absl::SleepFor(absl::Milliseconds(1));
    stream.Cancel();
  });
  Drain(stream);
  canceller.join();
  EXPECT_EQ(stream.Result().status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(scheduler_.generate_calls, 1);
}

TEST_F(ClientTest, LeavingAStreamCancelsTheRequest) {
  std::atomic<bool> cancelled = false;
  scheduler_.on_generate = [&](int, grpc::ServerContext& context, const v1::GenerateRequest&, Writer& writer) {
    FakeScheduler::Send(writer, 0, "a", {1});
    const auto status = FakeScheduler::UntilCancelled(context);
    cancelled = true;
    return status;
  };
  {
    TokenStream stream = client_->Generate(Prompt());
    ASSERT_TRUE(stream.Next().has_value());
  }
  while (!cancelled) absl::SleepFor(absl::Milliseconds(1));  // a hang here is the failure
}

TEST_F(ClientTest, AStreamThatStopsWithoutAnEndIsAFailure) {
  scheduler_.on_generate = [](int, grpc::ServerContext&, const v1::GenerateRequest&, Writer& writer) {
    FakeScheduler::Send(writer, 0, "a", {1});
    return grpc::Status::OK;
  };
  TokenStream stream = client_->Generate(Prompt());
  Drain(stream);
  EXPECT_EQ(stream.Result().status().code(), absl::StatusCode::kInternal);
}

TEST_F(ClientTest, ProgressIsPassedOnAndGivesTheIdEarly) {
  scheduler_.on_generate = [](int, grpc::ServerContext&, const v1::GenerateRequest&, Writer& writer) {
    v1::GenerateResponse response;
    response.mutable_progress()->set_state(v1::Progress::QUEUED);
    response.mutable_progress()->set_waits_for("a READY group");
    response.mutable_progress()->set_request_id("early");
    writer.Write(response);
    FakeScheduler::Send(writer, 0, "a", {1});
    return FakeScheduler::Finish(writer, 1);
  };
  std::vector<std::string> waits;
  GenerateOptions options;
  options.on_progress = [&waits](const v1::Progress& progress) { waits.push_back(progress.waits_for()); };
  TokenStream stream = client_->Generate(Prompt(), options);
  ASSERT_TRUE(stream.Next().has_value());
  EXPECT_EQ(stream.accepted().request_id(), "early");
  EXPECT_THAT(waits, ElementsAre("a READY group"));
}

TEST_F(ClientTest, CallsWithOneAnswer) {
  v1::TokenizeRequest request;
  request.set_text("ab");
  const auto ids = client_->Tokenize(request);
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_THAT(ids->token_ids(), ElementsAre('a', 'b'));
  EXPECT_THAT(*client_->Abort({"x", "y"}), ElementsAre("x"));
  EXPECT_EQ(ErrorReason(client_->ListModels().status()), "MODEL_LOADING");
  EXPECT_FALSE(Unreachable(client_->ListModels().status())) << "it answered";
}

TEST(ConnectTest, ASchedulerThatDiesIsNotTakenForARefusal) {
  auto scheduler = std::make_unique<FakeScheduler>();
  scheduler->on_generate = [](int, grpc::ServerContext& context, const v1::GenerateRequest&, Writer& writer) {
    FakeScheduler::Send(writer, 0, "a", {1});
    return FakeScheduler::UntilCancelled(context);
  };
  const auto client = Client::Connect(scheduler->address());
  ASSERT_TRUE(client.ok()) << client.status();
  v1::GenerateRequest request;
  request.set_text("once");
  TokenStream stream = (*client)->Generate(request, {.resume_within = absl::Milliseconds(300)});
  ASSERT_TRUE(stream.Next().has_value());
  scheduler.reset();
  EXPECT_FALSE(stream.Next().has_value());
  EXPECT_FALSE(stream.Result().ok());
  // Nobody is there any more: said as such, by this client as by a new one.
  EXPECT_TRUE(Unreachable((*client)->ListModels().status())) << (*client)->ListModels().status();
  EXPECT_THAT(std::string((*client)->ListModels().status().message()), HasSubstr("connection to the scheduler"));
}

TEST(ConnectTest, NobodyListensIsSaidAtOnce) {
  const absl::Time begin = absl::Now();
  const auto client = Client::Connect("127.0.0.1:1", {.connect_timeout = absl::Minutes(5)});
  EXPECT_TRUE(Unreachable(client.status())) << client.status();
  EXPECT_THAT(std::string(client.status().message()), HasSubstr("127.0.0.1:1"));
  EXPECT_LT(absl::Now() - begin, absl::Minutes(1));
}

}  // namespace
}  // namespace tandem::client
