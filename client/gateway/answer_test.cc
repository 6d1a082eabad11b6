// What answers look like, byte for byte where clients parse them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "client/gateway/answer_format.h"
#include "client/gateway/embedding_request.h"
#include "client/gateway/http_text.h"
#include "client/gateway/json_text.h"
#include "google/rpc/error_details.pb.h"

namespace tandem::gateway {
namespace {

using nlohmann::json;

CompletionRequest Request(bool chat, bool usage = false) {
  CompletionRequest request;
  request.chat = chat;
  request.model = "m";
  request.include_usage = usage;
  request.prompts.emplace_back();
  return request;
}

v1::Finished Finished(v1::FinishReason reason, uint32_t prompt = 3, uint32_t completion = 2) {
  v1::Finished finished;
  finished.set_reason(reason);
  finished.mutable_usage()->set_prompt_tokens(prompt);
  finished.mutable_usage()->set_completion_tokens(completion);
  return finished;
}

// Two tokens, one of them half a character, with an alternative.
v1::Chunk WithLogprobs() {
  v1::Chunk chunk;
  for (const uint32_t id : {5u, 6u}) {
    auto& position = *chunk.add_logprobs();
    position.mutable_chosen()->set_token_id(id);
    position.mutable_chosen()->set_logprob(-0.5f);
    *position.add_top() = position.chosen();
    position.add_top()->set_token_id(7);
    position.mutable_top(1)->set_logprob(-std::numeric_limits<float>::infinity());
  }
  const std::pair<uint32_t, std::string> texts[] = {{5, "ab"}, {6, "\xC3"}, {7, "c"}};
  for (const auto& [id, text] : texts) {
    chunk.add_token_texts()->set_token_id(id);
    chunk.mutable_token_texts(chunk.token_texts_size() - 1)->set_text(text);
  }
  return chunk;
}

TEST(Answer, CallsOfToolsInBothForms) {
  CompletionRequest request = Request(true);
  request.tools.offered = {{.name = "f"}};
  const std::vector<ToolCall> calls = {{"f", R"({"a": 1})"}, {"f", "{}"}};
  const std::string first = ToolCallId("chatcmpl-1", 0, 0), second = ToolCallId("chatcmpl-1", 0, 1);
  EXPECT_EQ(first.size(), 9u);
  EXPECT_NE(first, second);
  std::string events;
  AnswerFormat(request, "1", 42).AppendCalls(0, {calls[1]}, 1, LogprobsJson(), &events);
  EXPECT_THAT(events, ::testing::HasSubstr(R"("delta":{"tool_calls":[{"index":1,"id":")" + second +
                                           R"(","type":"function","function":{"name":"f","arguments":"{}"}}]})"));
  std::vector<Choice> choices(1);
  choices[0].calls = calls;
  choices[0].finished = Finished(v1::STOP);
  json whole = json::parse(AnswerFormat(request, "1", 42).Whole(choices));
  EXPECT_EQ(whole["choices"][0]["finish_reason"], "tool_calls");
  EXPECT_TRUE(whole["choices"][0]["message"]["content"].is_null());
  EXPECT_EQ(whole["choices"][0]["message"]["tool_calls"][0]["id"], first);
  EXPECT_EQ(whole["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], R"({"a": 1})");

  request.tools.elder = true;
  choices[0].calls.resize(1);
  choices[0].text = "so";
  whole = json::parse(AnswerFormat(request, "1", 42).Whole(choices));
  EXPECT_EQ(whole["choices"][0]["finish_reason"], "function_call");
  EXPECT_EQ(whole["choices"][0]["message"]["content"], "so");
  EXPECT_EQ(whole["choices"][0]["message"]["function_call"], json({{"name", "f"}, {"arguments", R"({"a": 1})"}}));
}

TEST(Answer, AChatStreamAsOpenAiPythonReadsIt) {
  const AnswerFormat format(Request(true, true), "1", 42);
  std::string events;
  format.AppendBegin(0, &events);
  format.AppendDelta(0, "a\"\n", LogprobsJson(), &events);
  format.AppendEnd(0, Finished(v1::LENGTH), false, &events);
  Choice choice;
  choice.finished = Finished(v1::LENGTH);
  format.AppendUsage({choice}, &events);
  AnswerFormat::AppendDone(&events);
  const std::string head =
      R"(data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":42,"model":"m","choices":[)";
  EXPECT_EQ(
      events,
      head +
          R"({"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null})"
          "\n\n" +
          head +
          R"({"index":0,"delta":{"content":"a\"\n"},"logprobs":null,"finish_reason":null}],"usage":null})"
          "\n\n" +
          head +
          R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"length","stop_reason":null}],"usage":null})"
          "\n\n" +
          head +
          R"(],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":0}}})"
          "\n\n"
          "data: [DONE]\n\n");
}

TEST(Answer, ACompletionStreamHasTextAndNoRole) {
  const AnswerFormat format(Request(false), "1", 42);
  std::string events;
  format.AppendBegin(0, &events);
  EXPECT_EQ(events, "");
  format.AppendDelta(1, "x", LogprobsJson(), &events);
  EXPECT_EQ(events, R"(data: {"id":"cmpl-1","object":"text_completion","created":42,"model":"m","choices":[)"
                    R"({"index":1,"text":"x","logprobs":null,"finish_reason":null}]})"
                    "\n\n");
}

TEST(Answer, AWholeAnswerParsesAndCountsEachPromptOnce) {
  CompletionRequest request = Request(true);
  request.n = 2;
  std::vector<Choice> choices(2);
  choices[0].text = "one";
  choices[0].finished = Finished(v1::STOP, 10, 4);
  choices[0].finished.set_stop_string("\n\n");
  choices[1].finished = Finished(v1::LENGTH, 10, 5);
  const json answer = json::parse(AnswerFormat(request, "1", 42).Whole(choices));
  EXPECT_EQ(answer["object"], "chat.completion");
  EXPECT_EQ(answer["choices"][0]["message"]["content"], "one");
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(answer["choices"][0]["stop_reason"], "\n\n");
  EXPECT_EQ(answer["choices"][1]["index"], 1);
  EXPECT_EQ(answer["usage"]["prompt_tokens"], 10);
  EXPECT_EQ(answer["usage"]["completion_tokens"], 9);
  EXPECT_EQ(answer["usage"]["total_tokens"], 19);
}

TEST(Logprobs, TheChatShape) {
  LogprobsJson logprobs({.chat = true});
  logprobs.Add(WithLogprobs());
  std::string text;
  logprobs.AppendTo(&text);
  const json parsed = json::parse(text);
  EXPECT_EQ(parsed["content"][0]["token"], "ab");
  EXPECT_EQ(parsed["content"][0]["bytes"], json({97, 98}));
  EXPECT_EQ(parsed["content"][0]["top_logprobs"][1]["token"], "c");
  EXPECT_EQ(parsed["content"][0]["top_logprobs"][1]["logprob"], -9999.0) << "JSON has no infinity";
  EXPECT_EQ(parsed["content"][1]["token"], "\xEF\xBF\xBD");
  EXPECT_EQ(parsed["content"][1]["bytes"], json({0xC3})) << "the bytes say what the text cannot";
}

TEST(Logprobs, TheCompletionsShape) {
  LogprobsJson logprobs({}, 10);
  logprobs.Add(WithLogprobs());
  std::string text;
  logprobs.AppendTo(&text);
  const json parsed = json::parse(text);
  EXPECT_EQ(parsed["tokens"][0], "ab");
  EXPECT_EQ(parsed["text_offset"], json({10, 12}));
  EXPECT_EQ(parsed["token_logprobs"], json({-0.5, -0.5}));
  EXPECT_EQ(parsed["top_logprobs"][0]["c"], -9999.0);
}

TEST(Logprobs, TokensAsIds) {
  LogprobsJson logprobs({.tokens_as_ids = true});
  logprobs.Add(WithLogprobs());
  std::string text;
  logprobs.AppendTo(&text);
  EXPECT_EQ(json::parse(text)["tokens"], json({"token_id:5", "token_id:6"}));
}

TEST(JsonText, WhatIsNoUtf8BecomesTheReplacementCharacter) {
  for (const std::string& bad : {std::string("\xff"), std::string("\xC3"), std::string("\xED\xA0\x80"),
                                 std::string("\xF4\x90\x80\x80"), std::string("\xC0\x80"), std::string("\xE2\x82")}) {
    EXPECT_THAT(json::parse(JsonString("a" + bad)).get<std::string>(), ::testing::StartsWith("a\xEF\xBF\xBD"));
  }
  const std::string fine("\x00\x01\x7f\n\"\\/ \xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 17);
  EXPECT_EQ(json::parse(JsonString(fine)).get<std::string>(), fine);
}

TEST(JsonText, NumbersReadBackAsTheyWere) {
  for (const float value : {0.1f, -1e-30f, 3.4e38f, 1.0f}) {
    std::string text;
    AppendJsonNumber(value, &text);
    EXPECT_EQ(std::stof(text), value);
  }
  std::string text;
  AppendJsonNumber(std::nanf(""), &text);
  EXPECT_EQ(text, "null");
}

TEST(Embeddings, Base64IsLittleEndianFloats) {
  EmbeddingRequest request;
  request.call.set_model("m");
  v1::EmbedResponse response;
  response.add_embeddings()->add_values(1.0f);
  response.mutable_usage()->set_prompt_tokens(4);
  EXPECT_EQ(json::parse(EmbeddingsJson(request, response))["data"][0]["embedding"], json({1.0}));
  request.base64 = true;
  const json answer = json::parse(EmbeddingsJson(request, response));
  EXPECT_EQ(answer["data"][0]["embedding"], "AACAPw==");
  EXPECT_EQ(answer["usage"]["total_tokens"], 4);
}

TEST(HttpText, PathsAndIds) {
  EXPECT_EQ(DecodePath("/v1/models/a%2Fb?x=%zz"), "/v1/models/a/b");
  EXPECT_EQ(DecodePath("http://host:1/v1/models"), "/v1/models");
  EXPECT_FALSE(DecodePath("/a%2").has_value());
  EXPECT_FALSE(DecodePath("/a%zz").has_value());
  EXPECT_FALSE(DecodePath("*").has_value());
  EXPECT_EQ(RequestId("abc-1"), "abc-1");
  EXPECT_EQ(RequestId("a b").size(), 32u) << "what could forge a header or a log line is replaced";
  EXPECT_EQ(RequestId(std::string(129, 'a')).size(), 32u);
}

TEST(ApiErrors, ACallThatTheModelDoesNotAnswerIsToldInRoutes) {
  google::rpc::ErrorInfo info;
  info.set_reason("INVALID_PARAMETER");
  (*info.mutable_metadata())["field"] = "model";
  (*info.mutable_metadata())["task"] = "generate";
  absl::Status status = absl::InvalidArgumentError(
      "model m has the task generate, so it does not answer Embed; call Generate, or name a model of the task embed");
  status.SetPayload("type.googleapis.com/google.rpc.ErrorInfo", absl::Cord(info.SerializeAsString()));
  const ApiError error = FromStatus(status);
  EXPECT_EQ(error.message,
            "model m has the task generate, so it does not answer /v1/embeddings; call /v1/chat/completions or "
            "/v1/completions, or name a model of the task embed");
  EXPECT_EQ(error.param, "model");
}

TEST(HttpText, RetryAfterIsWholeSecondsAndNeverNothing) {
  const Headers headers = RetryHeaders({.retry_after = absl::Milliseconds(1200)});
  EXPECT_EQ(headers[0].second, "2");
  EXPECT_EQ(headers[1].second, "1200");
  EXPECT_EQ(RetryHeaders({.retry_after = absl::ZeroDuration()})[0].second, "1");
  EXPECT_TRUE(RetryHeaders({}).empty());
}

}  // namespace
}  // namespace tandem::gateway
