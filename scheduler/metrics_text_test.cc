// Numbers as Prometheus reads them: what is in them while requests still run, whose they are, and that they are exact.
#include "scheduler/metrics_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace tandem::scheduler {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class MetricsTextTest : public ::testing::Test {
 protected:
  std::string Text() { return MetricsText(seen_, metrics_.Read(), facts_); }

  MetricsSnapshot seen_;
  MetricsFacts facts_{.version = "1"};
  RequestMetrics metrics_;
};

TEST_F(MetricsTextTest, WhatARequestDidIsThereBeforeItsEnd) {
  RequestFlow* flow = metrics_.FlowOf("chat", "a");
  flow->Assigned(core::Seconds(2));
  EXPECT_THAT(Text(), HasSubstr("tandem_queue_time_seconds_count{model=\"chat\"} 1\n"));
  flow->FirstToken(core::Seconds(7), core::Seconds(2), 100, 30);
  flow->Tokens(5);
  flow->Preempted();
  const std::string text = Text();
  EXPECT_THAT(text, HasSubstr("tandem_time_to_first_token_seconds_sum{model=\"chat\"} 7\n"));
  EXPECT_THAT(text, HasSubstr("tandem_prefill_time_seconds_sum{model=\"chat\"} 5\n"));
  EXPECT_THAT(text, HasSubstr("tandem_generation_tokens_total{model=\"chat\",tenant=\"a\"} 5\n"));
  EXPECT_THAT(text, HasSubstr("tandem_prompt_tokens_total{model=\"chat\",tenant=\"a\"} 100\n"));
  EXPECT_THAT(text, HasSubstr("tandem_cached_prompt_tokens_total{model=\"chat\",tenant=\"a\"} 30\n"));
  EXPECT_THAT(text, HasSubstr("tandem_preemptions_total{model=\"chat\",tenant=\"a\"} 1\n"));
  flow->Finished({.prompt_tokens = 100,
                  .output_tokens = 6,
                  .cached_tokens = 30,
                  .unsent_tokens = 1,
                  .queue = 2,
                  .first_token = 7,
                  .total = 12,
                  .stopped = true});
  const std::string after = Text();
  EXPECT_THAT(after, HasSubstr("tandem_generation_tokens_total{model=\"chat\",tenant=\"a\"} 6\n"))
      << "with the stop token";
  EXPECT_THAT(after, HasSubstr("tandem_prompt_tokens_total{model=\"chat\",tenant=\"a\"} 100\n")) << "once";
  EXPECT_THAT(after, HasSubstr("tandem_time_to_first_token_seconds_count{model=\"chat\"} 1\n"));
  EXPECT_THAT(after, HasSubstr("tandem_inter_token_latency_seconds_sum{model=\"chat\"} 1\n"));
}

TEST_F(MetricsTextTest, AnEndThatIsNotTheServicesFaultIsNoFailure) {
  RequestFlow* flow = metrics_.FlowOf("chat", "");
  for (const char* reason : {"QUEUE_FULL", "TENANT_LIMIT", "DEADLINE_EXCEEDED", "CANCELLED", "WORKER_LOST"}) {
    flow->Failed(reason);
  }
  metrics_.Rejected("chat", "", "INVALID_PARAMETER");
  const std::string text = Text();
  for (const auto& [outcome, n] : {std::pair("failed", 1), std::pair("rejected", 3), std::pair("expired", 1),
                                   std::pair("cancelled", 1), std::pair("stopped", 0)}) {
    EXPECT_THAT(text, HasSubstr(absl::StrCat("tandem_requests_total{model=\"chat\",tenant=\"\",outcome=\"", outcome,
                                             "\"} ", n, "\n")));
  }
  EXPECT_THAT(text, HasSubstr("tandem_request_rejections_total{reason=\"INVALID_PARAMETER\",tenant=\"\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("tandem_request_rejections_total{reason=\"QUEUE_FULL\",tenant=\"\"} 1\n"));
  EXPECT_THAT(text, Not(HasSubstr("tandem_request_rejections_total{reason=\"WORKER_LOST\"")));
}

// What is counted beside the core: a router whose workers repeat themselves, and clients that do not read.
TEST_F(MetricsTextTest, TheShellsOwnCountsAreShown) {
  facts_.stale_updates = 7;
  facts_.slow_clients = 3;
  const std::string text = Text();
  EXPECT_THAT(text, HasSubstr("tandem_stale_messages_total{about=\"tokens\"} 7\n"));
  EXPECT_THAT(text, HasSubstr("tandem_slow_clients_dropped_total 3\n"));
}

TEST_F(MetricsTextTest, WhoWaitsForAFullGroupIsCountedAmongThoseWhoWait) {
  ModelRow model;
  model.spec.name = "chat";
  seen_.models = {model};
  metrics_.FlowOf("chat", "a");
  seen_.waiters = {{model.id, "a", core::Seconds(3), true}, {model.id, "a", core::Seconds(5), false}};
  seen_.cluster.counters.homes_reached = 4;
  seen_.cluster.counters.homes_given_up = 2;
  const std::string text = Text();
  EXPECT_THAT(text, HasSubstr("tandem_requests_waiting{model=\"chat\",tenant=\"a\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("tandem_requests_waiting_for_home{model=\"chat\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("tandem_oldest_waiting_seconds{model=\"chat\"} 5\n"));
  EXPECT_THAT(text, HasSubstr("tandem_home_waits_total{outcome=\"reached\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("tandem_home_waits_total{outcome=\"given_up\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("tandem_home_waits_total{outcome=\"left\"} 0\n"));
}

TEST_F(MetricsTextTest, TenantsAreBounded) {
  for (size_t i = 0; i < 2 * RequestMetrics::kMostTenants; ++i) {
    metrics_.FlowOf("chat", absl::StrCat("tenant-", i))->Tokens(1);
  }
  const std::string text = Text();
  EXPECT_THAT(text, HasSubstr("tandem_generation_tokens_total{model=\"chat\",tenant=\"tenant-0\"} 1\n"));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("tandem_generation_tokens_total{model=\"chat\",tenant=\"other\"} ",
                                           RequestMetrics::kMostTenants, "\n")));
  EXPECT_THAT(text, Not(HasSubstr(absl::StrCat("tenant-", 2 * RequestMetrics::kMostTenants - 1))));
}

TEST_F(MetricsTextTest, CountsAreExactAndFractionsShort) {
  metrics_.FlowOf("chat", "a")->Tokens(12345678901234567 / 10);
  EXPECT_THAT(Text(), HasSubstr("tandem_generation_tokens_total{model=\"chat\",tenant=\"a\"} 1234567890123456\n"));
  EXPECT_THAT(Text(), HasSubstr("tandem_time_to_first_token_seconds_bucket{model=\"chat\",le=\"0.001\"} 0\n"));
}

}  // namespace
}  // namespace tandem::scheduler
