#include "worker/translate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace tandem::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::AssignRequest* Assign(v1::AttachResponse& message) {
  v1::AssignRequest& assign = *message.mutable_assign_request();
  assign.mutable_key()->set_request_id(std::string(16, 'r'));
  assign.mutable_key()->mutable_attempt()->set_leader(3);
  assign.mutable_key()->mutable_attempt()->set_counter(4);
  assign.mutable_group()->set_group_id(7);
  assign.add_prompt_ids(5);
  assign.set_max_tokens(9);
  return &assign;
}

std::string Refusal(const v1::AttachResponse& message) {
  absl::StatusOr<std::optional<Command>> command = CommandFrom(message, SteadyTime{});
  return command.ok() ? "accepted" : std::string(command.status().message());
}

TEST(TranslateTest, ARequestComesWithItsDeadlineAsAnInstant) {
  v1::AttachResponse message;
  v1::AssignRequest* assign = Assign(message);
  assign->set_deadline_ms(1500);
  assign->mutable_sampling()->set_top_k(-1);
  assign->add_stop_token_ids(11);
  assign->set_logprobs(0);
  absl::StatusOr<std::optional<Command>> command = CommandFrom(message, SteadyTime{} + std::chrono::seconds(1));
  ASSERT_TRUE(command.ok()) << command.status();
  const Request& request = std::get<AssignRequest>(**command).request;
  EXPECT_EQ(request.id.attempt, (GroupEpoch{3, 4}));
  EXPECT_EQ(*request.deadline, SteadyTime{} + std::chrono::milliseconds(2500));
  EXPECT_EQ(request.sampling.top_p, 1);
  EXPECT_EQ(request.sampling.repetition_penalty, 1);
  EXPECT_EQ(request.logprobs, 0u);
  EXPECT_THAT(request.stop_token_ids, ElementsAre(11));
}

TEST(TranslateTest, ADeadlineBeyondAllTimeDoesNotWrap) {
  v1::AttachResponse message;
  Assign(message)->set_deadline_ms(std::numeric_limits<uint64_t>::max());
  SteadyTime now = std::chrono::steady_clock::now();
  EXPECT_GT(*std::get<AssignRequest>(**CommandFrom(message, now)).request.deadline, now);
}

TEST(TranslateTest, AnIdBeyondTheSignedRangeBecomesOneThatNoVocabularyHas) {
  v1::AttachResponse message;
  Assign(message)->add_prompt_ids(0xffffffff);
  EXPECT_THAT(std::get<AssignRequest>(**CommandFrom(message, SteadyTime{})).request.prompt, ElementsAre(5, -1));
}

TEST(TranslateTest, WhatCanNotBeReadIsRefusedByTheFieldsName) {
  v1::AttachResponse message;
  Assign(message)->mutable_key()->set_request_id("short");
  EXPECT_THAT(Refusal(message), HasSubstr("key.request_id: 5 bytes"));
  message.Clear();
  Assign(message)->mutable_sampling()->set_temperature(std::nanf(""));
  EXPECT_THAT(Refusal(message), HasSubstr("sampling.temperature"));
  message.Clear();
  Assign(message)->mutable_sampling()->set_top_p(0);
  EXPECT_THAT(Refusal(message), HasSubstr("sampling.top_p"));
  message.Clear();
  message.mutable_form_group()->set_size(99);
  EXPECT_THAT(Refusal(message), HasSubstr("form_group.rank: 0 of 99"));
  message.Clear();
  message.mutable_form_group()->set_size(1);
  message.mutable_form_group()->set_secret("x");
  EXPECT_THAT(Refusal(message), HasSubstr("form_group.secret: 1 bytes"));
}

TEST(TranslateTest, CacheChangesComeInMessagesOf256) {
  CacheChanged report{.group = {.id = 1}};
  report.changes.stored.resize(300);
  report.changes.evicted.resize(10);
  std::vector<v1::AttachRequest> messages = CacheMessages(report);
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[0].cache_changed().evicted_size(), 10);
  EXPECT_EQ(messages[0].cache_changed().stored_size(), 246);
  EXPECT_EQ(messages[1].cache_changed().stored_size(), 54);
  EXPECT_EQ(messages[1].cache_changed().group().group_id(), 1u);
  EXPECT_FALSE(messages[0].cache_changed().whole());
}

TEST(TranslateTest, AWholeCacheBeginsWithItsFirstMessageAlone) {
  CacheChanged report{.group = {.id = 1}, .whole = true};
  ASSERT_EQ(CacheMessages(report).size(), 1u) << "an empty cache is said too";
  report.changes.stored.resize(257);
  const std::vector<v1::AttachRequest> messages = CacheMessages(report);
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_TRUE(messages[0].cache_changed().whole());
  EXPECT_EQ(messages[0].cache_changed().stored_size(), 256);
  EXPECT_FALSE(messages[1].cache_changed().whole());
}

TEST(TranslateTest, AStopTokenTravelsInTheEndOnly) {
  StepDone step{.group = {.id = 2}, .step = 8};
  step.updates.push_back({AttemptId{}, Produced{.first_index = 3, .tokens = {41, 42}}});
  step.updates.push_back({AttemptId{}, Ended{.how = Ended::How::kStopped, .stop_token = 2, .output_tokens = 6}});
  v1::TokensRequest message = TokensMessage(step, SteadyTime(), "");
  ASSERT_EQ(message.updates_size(), 2);
  EXPECT_THAT(message.updates(0).produced().token_ids(), ElementsAre(41, 42));
  EXPECT_EQ(message.updates(1).ended().how(), v1::Ended::STOPPED);
  EXPECT_EQ(message.updates(1).ended().stop_token_id(), 2u);
  EXPECT_EQ(message.updates(1).ended().output_tokens(), 6u);
}

}  // namespace
}  // namespace tandem::worker
