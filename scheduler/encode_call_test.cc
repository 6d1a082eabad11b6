// A call of many questions over a real gRPC server in this process. The test stands in for the core and for the
// engines: it takes the questions that entered out of the store and answers them, in whatever order it likes.
#include "scheduler/encode_call.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <future>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "scheduler/clock.h"
#include "tandem/v1/inference.grpc.pb.h"

namespace tandem::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr size_t kMostInFlight = 48;  // as encode_call.cc has it

// As many questions as the request has texts; question i is named inputs[i] and answered with one number.
class Questions final : public EncodeCall {
 public:
  Questions(const Parts& parts, ServedModelPtr model, const v1::EmbedRequest* request, v1::EmbedResponse* response)
      : EncodeCall(parts, {"small", "tenant", {}}, std::move(model), 0), request_(*request), response_(response) {}

 private:
  std::optional<Error> Prepare(std::vector<Question>* questions) override {
    for (int i = 0; i < request_.texts_size(); ++i) {
      // Work that would not end by itself.
      while (request_.texts(i) == "endless") {
        if (auto unwanted = Unwanted()) return unwanted;
      }
      if (request_.texts(i) == "bad") return Error{kInvalidParameter, absl::StrCat("inputs[", i, "] is bad")};
      questions->push_back({.field = absl::StrCat("inputs[", i, "]"), .ids = {static_cast<uint32_t>(i)}});
    }
    return std::nullopt;
  }
  void Respond(absl::Span<const Question>, absl::Span<const std::vector<float>> vectors) override {
    for (const std::vector<float>& vector : vectors) response_->add_embeddings()->add_values(vector.at(0));
  }

  const v1::EmbedRequest& request_;
  v1::EmbedResponse* const response_;
};

class Door final : public v1::InferenceService::CallbackService {
 public:
  Door(const EncodeCall::Parts& parts, ServedModelPtr model) : parts_(parts), model_(std::move(model)) {}

  grpc::ServerUnaryReactor* Embed(grpc::CallbackServerContext* context, const v1::EmbedRequest* request,
                                  v1::EmbedResponse* response) override {
    const auto call = std::make_shared<Questions>(parts_, model_, request, response);
    call->Hold();
    call->Begin(*context, /*bytes=*/1);
    if (!begun_.HasBeenNotified()) begun_.Notify();
    return call.get();
  }

  // The first call has come.
  absl::Notification begun_;

 private:
  const EncodeCall::Parts parts_;
  const ServedModelPtr model_;
};

ServedModelPtr SmallEncoder() {
  auto model = std::make_shared<ServedModel>();
  model->spec.name = "small";
  model->limits.vocab_size = 1000;
  const char* const root = std::getenv("TANDEM_SOURCE_DIR");
  auto tokenizer = tokenizer::Tokenizer::Load(absl::StrCat(root == nullptr ? "." : root, "/models/tandem-tiny"));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  model->tokenizer = *std::move(tokenizer);
  model->encoder = EncoderLimits{.max_tokens = 16, .vector_size = 1};
  return model;
}

class EncodeCallTest : public testing::Test {
 protected:
  EncodeCallTest()
      : store_({}),
        reattachment_(&store_, 1),
        router_(&catalog_, &store_, &reattachment_, {},
                {.post = [this](core::Event event) { Posted(event); },
                 .ask_positions = [](auto) {},
                 .send = [](core::DeviceId, v1::AttachResponse) {},
                 .device_of = [](core::Incarnation) { return std::nullopt; }}),
        pool_({.threads = 1}),
        core_({}, /*runner=*/nullptr, /*journal=*/nullptr),  // never started: what is posted stays there
        door_({&core_, &store_, &router_, &pool_, &metrics_, &log_}, SmallEncoder()) {
    grpc::ServerBuilder builder;
    builder.RegisterService(&door_);
    server_ = builder.BuildAndStart();
    stub_ = v1::InferenceService::NewStub(server_->InProcessChannel({}));
  }
  ~EncodeCallTest() override {
    server_->Shutdown(std::chrono::system_clock::now());
    pool_.Stop();
  }

  // Sends a call of so many questions, and returns once those that may have entered the core.
  void Call(size_t questions, const std::string& text = "text") {
    for (size_t i = 0; i < questions; ++i) request_.add_texts(text);
    done_ = std::async(std::launch::async, [this] { return stub_->Embed(&context_, request_, &response_); });
    while (!door_.begun_.HasBeenNotified()) {
      if (done_.wait_for(std::chrono::milliseconds(1)) == std::future_status::ready)
        return;  // its time was over before
    }
    // The pool has one thread, so the call's job is over when this one runs.
    absl::Notification over;
    ASSERT_TRUE(pool_.Submit(1, [&] { over.Notify(); }));
    over.WaitForNotification();
  }
  grpc::Status Status() {
    EXPECT_EQ(done_.wait_for(std::chrono::seconds(30)), std::future_status::ready) << "the call does not end";
    context_.TryCancel();  // of one that does not
    return done_.get();
  }
  std::vector<float> Values() const {
    std::vector<float> values;
    for (const v1::Embedding& embedding : response_.embeddings()) values.push_back(embedding.values(0));
    return values;
  }

  // What is in the core now, by the field.
  std::shared_ptr<RequestStream> Find(const std::string& field) const {
    for (const auto& stream : store_.Living()) {
      if (!stream->Ended() && stream->facts().input == field) return stream;
    }
    return nullptr;
  }
  std::set<std::string> InTheCore() const {
    std::set<std::string> fields;
    for (const auto& stream : store_.Living()) {
      if (!stream->Ended()) fields.insert(stream->facts().input);
    }
    return fields;
  }

  void Answer(const std::string& field, float value) {
    const auto stream = Find(field);
    ASSERT_NE(stream, nullptr) << field << " is not in the core";
    const core::Attempt attempt{1, 1};
    v1::AssignRequest command;
    ASSERT_TRUE(stream->OnAssigned({attempt, {7}, {1, 1}, {0}, 1, "fake"}, &command));
    stream->OnDispatched();
    v1::Ended ended;
    ended.set_how(v1::Ended::LENGTH_REACHED);
    ended.set_vector(std::string(reinterpret_cast<const char*>(&value), sizeof(value)));
    stream->OnEnded(attempt, ended, Now(), true);
  }
  void Fail(const std::string& field, const Error& error) {
    const auto stream = Find(field);
    ASSERT_NE(stream, nullptr) << field << " is not in the core";
    stream->Fail(error);
  }

  size_t cancelled() {
    absl::MutexLock lock(&mu_);
    return cancelled_;
  }
  void AwaitCancelled(size_t count) {
    absl::MutexLock lock(&mu_);
    const auto all = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return cancelled_ >= count; };
    ASSERT_TRUE(mu_.AwaitWithTimeout(absl::Condition(&all), absl::Seconds(30))) << cancelled_ << " of " << count;
  }

 private:
  void Posted(const core::Event& event) {
    absl::MutexLock lock(&mu_);
    cancelled_ += std::holds_alternative<core::RequestCancelled>(event);
  }

  absl::Mutex mu_;
  size_t cancelled_ ABSL_GUARDED_BY(mu_) = 0;

  const ModelCatalog catalog_{std::vector<ServedModel>()};

 protected:
  RequestStore store_;

 private:
  Reattachment reattachment_;
  TokenRouter router_;

 protected:
  TokenizerPool pool_;
  CoreLoop core_;
  RequestMetrics metrics_;
  RequestLog log_{&metrics_};

 private:
  Door door_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::InferenceService::Stub> stub_;
  v1::EmbedRequest request_;
  v1::EmbedResponse response_;
  std::future<grpc::Status> done_;

 protected:
  grpc::ClientContext context_;
};

std::string Field(size_t i) { return absl::StrCat("inputs[", i, "]"); }

TEST_F(EncodeCallTest, FewAreInTheCoreAtATimeAndTheAnswersKeepTheOrderOfTheQuestions) {
  constexpr size_t kQuestions = 60;
  Call(kQuestions);
  EXPECT_EQ(InTheCore().size(), kMostInFlight);
  EXPECT_EQ(InTheCore().count(Field(kMostInFlight)), 0u);
  Answer(Field(7), 7.5f);
  EXPECT_EQ(InTheCore().size(), kMostInFlight) << "the next one came in its place";
  EXPECT_EQ(InTheCore().count(Field(kMostInFlight)), 1u);
  // The last of those that are in there first, until there are none.
  std::vector<float> wanted(kQuestions);
  wanted[7] = 7.5f;
  for (std::set<std::string> left = InTheCore(); !left.empty(); left = InTheCore()) {
    size_t last = 0;
    for (size_t i = 0; i < kQuestions; ++i) last = left.count(Field(i)) > 0 ? i : last;
    wanted[last] = static_cast<float>(last) + 0.5f;
    Answer(Field(last), wanted[last]);
  }
  const grpc::Status status = Status();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(Values(), wanted);
  EXPECT_EQ(cancelled(), 0u);
}

TEST_F(EncodeCallTest, AFullQueueIsWaitedForWhereOthersOfTheCallAreInIt) {
  Call(3);
  Fail("inputs[1]", {kQueueFull, "the queue is full"});
  Fail("inputs[2]", {kQueueFull, "the queue is full"});
  EXPECT_THAT(InTheCore(), ElementsAre("inputs[0]")) << "asked again only when there is room";
  Answer("inputs[0]", 1);
  EXPECT_THAT(InTheCore(), ElementsAre("inputs[1]")) << "one answer is room for one";
  Answer("inputs[1]", 2);
  Answer("inputs[2]", 3);
  EXPECT_TRUE(Status().ok());
  EXPECT_THAT(Values(), ElementsAre(1, 2, 3));
}

TEST_F(EncodeCallTest, AFullQueueFailsACallThatHasNothingInIt) {
  Call(2);
  Answer("inputs[0]", 1);
  Fail("inputs[1]", {kQueueFull, "the queue is full"});
  const grpc::Status status = Status();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("the queue is full"));
  EXPECT_THAT(Values(), IsEmpty());
}

TEST_F(EncodeCallTest, OneThatFailsEndsTheCallAndTheOthersAreCancelled) {
  Call(60);
  Fail("inputs[3]", {kInvalidParameter, "inputs[3]: no picture"});
  const grpc::Status status = Status();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("inputs[3]: no picture"));
  EXPECT_EQ(cancelled(), kMostInFlight - 1);
  EXPECT_EQ(store_.Living().size(), kMostInFlight) << "nothing more entered";
}

TEST_F(EncodeCallTest, AClientThatLeavesTakesItsQuestionsAlong) {
  Call(60);
  Answer("inputs[0]", 1);
  context_.TryCancel();
  EXPECT_EQ(Status().error_code(), grpc::StatusCode::CANCELLED);
  AwaitCancelled(kMostInFlight);
  EXPECT_EQ(store_.Living().size(), kMostInFlight + 1) << "nothing more entered";
}

TEST_F(EncodeCallTest, ACoreThatTakesNothingMoreIsAFullQueue) {
  core_.Stop();
  Call(2);
  const grpc::Status status = Status();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_details(), HasSubstr(kQueueFull.reason));
  EXPECT_THAT(store_.Living(), IsEmpty());
}

TEST_F(EncodeCallTest, AfterItsDeadlineACallIsNotPreparedAnyFurther) {
  context_.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
  Call(2, "endless");  // returns when the pool's thread is free again
  EXPECT_EQ(Status().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_THAT(store_.Living(), IsEmpty());
}

TEST(TokenizerPoolTest, WhatIsLargerThanAllItMayHoldIsNeverTaken) {
  TokenizerPool pool({.threads = 1, .bytes = 100});
  EXPECT_FALSE(pool.Submit(101, [] {}));
  absl::Notification over;
  EXPECT_TRUE(pool.Submit(100, [&] { over.Notify(); }));
  over.WaitForNotification();
}

TEST_F(EncodeCallTest, WhatCanNotBePreparedAsksNothing) {
  Call(2, "bad");
  const grpc::Status status = Status();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("inputs[0] is bad"));
  EXPECT_THAT(store_.Living(), IsEmpty());
}

}  // namespace
}  // namespace tandem::scheduler
