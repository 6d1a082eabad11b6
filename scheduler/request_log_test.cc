#include "scheduler/request_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "scheduler/clock.h"

namespace tandem::scheduler {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class RequestLogTest : public ::testing::Test {
 protected:
  std::unique_ptr<RequestStream> Stream() {
    RequestStream::Facts facts;
    facts.id = {0x11, 0x22};
    facts.model = "tiny";
    facts.tenant = "line\nbreak";
    facts.caller = {"mine-1", "4bf92f3577b34da6a3ce929d0e0e4736"};
    facts.prompt_tokens = 12;
    facts.arrived = now_ + core::Milliseconds(-1500);
    const char* const root = std::getenv("TANDEM_SOURCE_DIR");
    facts.tokenizer = *tokenizer::Tokenizer::Load(absl::StrCat(root == nullptr ? "." : root, "/models/tandem-tiny"));
    facts.flow = metrics_.FlowOf("tiny", facts.tenant);
    return std::make_unique<RequestStream>(std::move(facts), v1::AssignRequest());
  }

  const core::Instant now_ = Now();
  std::vector<std::string> lines_;
  RequestMetrics metrics_;
  RequestLog log_{&metrics_, [this](Outcome, const std::string& line) { lines_.push_back(line); }};
};

TEST_F(RequestLogTest, AFailedRequestCanBeFoundAgain) {
  const auto stream = Stream();
  v1::AssignRequest command;
  stream->OnAssigned({{1, 1}, {7}, {1, 1}, {0}, 10, "fake"}, &command);
  log_.Failed(*stream, "WORKER_LOST", "moved 8 times", now_);
  ASSERT_THAT(lines_, SizeIs(1));
  for (const char* part :
       {"00000000000000110000000000000022", "WORKER_LOST: moved 8 times", "mine-1", "4bf92f3577b34da6a3ce929d0e0e4736",
        "model tiny", "tenant \"line\\nbreak\"", "12 prompt tokens", "groups/7", "1.500 s in all"}) {
    EXPECT_THAT(lines_[0], HasSubstr(part));
  }
  EXPECT_EQ(metrics_.Read().models.at("tiny").Sum().outcomes[static_cast<size_t>(Outcome::kFailed)], 1u);
}

TEST_F(RequestLogTest, FailuresAlwaysHaveALineAndRefusalsShareABudget) {
  const auto stream = Stream();
  const auto refuse = [&](core::Instant now) { log_.Refused({"tiny", "t", {}}, {kQueueFull, "full"}, now); };
  for (int i = 0; i < 100; ++i) refuse(now_);
  EXPECT_THAT(lines_, SizeIs(20));
  for (int i = 0; i < 30; ++i) log_.Failed(*stream, "ENGINE_FAULT", "broken", now_);
  EXPECT_THAT(lines_, SizeIs(50));
  log_.Failed(*stream, "DEADLINE_EXCEEDED", "of its caller", now_);
  EXPECT_THAT(lines_, SizeIs(50)) << "under overload these are as many as refusals";
  refuse(now_ + core::Seconds(1));
  ASSERT_THAT(lines_, SizeIs(51));
  EXPECT_THAT(lines_.back(), HasSubstr("81 like it before had no line"));
  refuse(now_ + core::Seconds(1));
  EXPECT_THAT(lines_.back(), Not(HasSubstr("had no line")));
}

TEST_F(RequestLogTest, WhoTakesARequestBackKnowsWhy) {
  log_.Failed(*Stream(), "CANCELLED", "the client left", now_);
  EXPECT_THAT(lines_, IsEmpty());
  EXPECT_EQ(metrics_.Read().models.at("tiny").Sum().outcomes[static_cast<size_t>(Outcome::kCancelled)], 1u);
}

TEST_F(RequestLogTest, WhatADoorRefusesIsCounted) {
  log_.Refused({"", "made-up", {}}, {kModelNotFound, "there is no model \"x\""}, now_);
  log_.Refused({"tiny", "made-up", {}}, {kInvalidParameter, "top_p is 7"}, now_);
  const RequestMetrics::Snapshot read = metrics_.Read();
  const std::pair<std::string, std::string> unknown{"MODEL_NOT_FOUND", "other"}, bad{"INVALID_PARAMETER", "other"};
  EXPECT_EQ(read.rejections.at(unknown), 1u) << "a tenant that was never served gets no label";
  EXPECT_EQ(read.rejections.at(bad), 1u);
  EXPECT_EQ(read.models.at("tiny").Sum().outcomes[static_cast<size_t>(Outcome::kRejected)], 1u);
}

}  // namespace
}  // namespace tandem::scheduler
