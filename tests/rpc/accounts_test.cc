// What can be said of a request from outside: by what name it is found, what the numbers have of it before its end, and
// that those that were turned away are in them.
#include <gmock/gmock.h>

#include <set>
#include <string>
#include <vector>

#include "tests/rpc/rpc_test.h"

namespace tandem::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class AccountsTest : public RpcTest {};

TEST_F(AccountsTest, ARequestIsFoundByWhatItsCallerCallsIt) {
  AddWorker();
  ASSERT_TRUE(WaitReady());
  const std::string trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  grpc::ClientContext context;
  context.AddMetadata("x-request-id", "mine-1");
  context.AddMetadata("traceparent", absl::StrCat("00-", trace, "-00f067aa0ba902b7-01"));
  auto reader = stub_->Generate(&context, Ask({301}, 5));
  v1::GenerateResponse message;
  Answer answer;
  Drain(*reader, message, &answer);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  // Its last word to the client is ahead of the core's books.
  ASSERT_TRUE(Eventually([&] { return server_->store().living() == 0; }));
  for (const std::string& name : {std::string("mine-1"), trace, answer.request_id}) {
    grpc::ClientContext explain_context;
    v1::ExplainRequestRequest request;
    v1::ExplainRequestResponse explained;
    request.set_name(name);
    ASSERT_TRUE(admin_->ExplainRequest(&explain_context, request, &explained).ok()) << name;
    EXPECT_THAT(explained.DebugString(), HasSubstr(answer.request_id)) << name;
    EXPECT_THAT(explained.DebugString(), HasSubstr(absl::StrCat("mine-1, in trace ", trace)));
  }
  grpc::ClientContext list_context;
  v1::ListRequestsRequest list;
  list.set_all(true);
  v1::ListRequestsResponse listed;
  ASSERT_TRUE(admin_->ListRequests(&list_context, list, &listed).ok());
  ASSERT_EQ(listed.requests_size(), 1);
  EXPECT_EQ(listed.requests(0).caller_id(), "mine-1");
  EXPECT_EQ(listed.requests(0).trace_id(), trace);
}

// A list that is longer than a page comes in several, and each row once: those that ended, then those that live.
TEST_F(AccountsTest, AListComesInPages) {
  AddWorker();
  ASSERT_TRUE(WaitReady());
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(Generate(Ask({301}, 2)).status.ok());
  ASSERT_TRUE(Eventually([&] { return server_->store().living() == 0; }));
  v1::ListRequestsRequest list;
  list.set_all(true);
  list.set_page_size(2);
  std::vector<int> sizes;
  std::set<std::string> names;
  do {
    grpc::ClientContext context;
    v1::ListRequestsResponse page;
    ASSERT_TRUE(admin_->ListRequests(&context, list, &page).ok());
    sizes.push_back(page.requests_size());
    for (const v1::Request& request : page.requests()) EXPECT_TRUE(names.insert(request.name()).second);
    list.set_page_token(page.next_page_token());
  } while (!list.page_token().empty());
  EXPECT_THAT(sizes, ::testing::ElementsAre(2, 2, 1));
  for (const char* token : {"z3", "r", "rx", "-1"}) {
    grpc::ClientContext context;
    v1::ListRequestsResponse page;
    list.set_page_token(token);
    EXPECT_EQ(Reason(admin_->ListRequests(&context, list, &page)), "INVALID_PARAMETER") << token;
  }
}

// Calls that ask for tokens or text are turned away like others, and are in the same numbers.
TEST_F(AccountsTest, WhatTokenizeTurnsAwayIsCounted) {
  const auto rejections = [&] {
    grpc::ClientContext context;
    v1::GetMetricsRequest request;
    request.set_names("vllm");
    v1::GetMetricsResponse response;
    EXPECT_TRUE(stub_->GetMetrics(&context, request, &response).ok());
    return response.text();
  };
  EXPECT_THAT(rejections(), HasSubstr("vllm:admission_rejections_total{engine=\"0\"} 0\n"));
  v1::TokenizeRequest tokenize;
  tokenize.set_model("nobody");
  v1::TokenizeResponse tokens;
  grpc::ClientContext no_model, no_text, no_token;
  EXPECT_EQ(Reason(stub_->Tokenize(&no_model, tokenize, &tokens)), "MODEL_NOT_FOUND");
  tokenize.set_model("tiny");
  tokenize.set_text("ab\xFF");
  EXPECT_EQ(Reason(stub_->Tokenize(&no_text, tokenize, &tokens)), "INVALID_PARAMETER");
  v1::DetokenizeRequest detokenize;
  detokenize.set_model("tiny");
  detokenize.add_token_ids(1u << 30);
  v1::DetokenizeResponse text;
  EXPECT_EQ(Reason(stub_->Detokenize(&no_token, detokenize, &text)), "INVALID_PARAMETER");
  EXPECT_THAT(rejections(), HasSubstr("vllm:admission_rejections_total{engine=\"0\"} 3\n"));
}

TEST_F(AccountsTest, ARequestThatHangsIsInTheNumbersAsFarAsItCame) {
  FakeWorker& worker = AddWorker({.step = std::chrono::milliseconds(50)});
  ASSERT_TRUE(WaitReady());
  const auto metrics = [&] {
    grpc::ClientContext context;
    v1::GetMetricsRequest request;
    request.set_names("vllm");
    v1::GetMetricsResponse response;
    EXPECT_TRUE(stub_->GetMetrics(&context, request, &response).ok());
    return response.text();
  };
  const std::string labels = "{model_name=\"tiny\",engine=\"0\"}";
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Ask({301, 302}, 400));
  v1::GenerateResponse message;
  while (reader->Read(&message) && !message.has_chunk()) {
  }
  worker.Freeze(true);
  const std::string text = metrics();
  EXPECT_THAT(text, HasSubstr(absl::StrCat("vllm:time_to_first_token_seconds_count", labels, " 1\n")));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("vllm:request_queue_time_seconds_count", labels, " 1\n")));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("vllm:prompt_tokens_total", labels, " 2\n")));
  EXPECT_THAT(text, Not(HasSubstr(absl::StrCat("vllm:generation_tokens_total", labels, " 0\n"))));
  EXPECT_THAT(text, HasSubstr(absl::StrCat("vllm:e2e_request_latency_seconds_count", labels, " 0\n")));
  worker.Freeze(false);
  context.TryCancel();
  reader->Finish();
}

TEST_F(AccountsTest, WhatTheDoorRefusesIsCountedAsRejected) {
  AddWorker();
  ASSERT_TRUE(WaitReady());
  auto bad = Ask({301}, 5);
  bad.mutable_sampling()->set_top_p(7);
  EXPECT_EQ(Reason(Generate(bad).status), "INVALID_PARAMETER");
  auto unknown = Ask({301}, 5);
  unknown.set_model("nobody");
  EXPECT_EQ(Reason(Generate(unknown).status), "MODEL_NOT_FOUND");
  grpc::ClientContext context;
  v1::GetMetricsRequest request;
  request.set_names("vllm");
  v1::GetMetricsResponse response;
  ASSERT_TRUE(stub_->GetMetrics(&context, request, &response).ok());
  EXPECT_THAT(response.text(), HasSubstr("vllm:admission_rejections_total{engine=\"0\"} 2\n"));
}

}  // namespace
}  // namespace tandem::testing
