// What bodies mean: the parsers of requests, as tables of bodies and of what comes out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "client/gateway/completion_request.h"
#include "client/gateway/default_model.h"
#include "client/gateway/embedding_request.h"
#include "client/gateway/tokenize_request.h"

namespace tandem::gateway {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;

template <typename Parser>
auto Parse(Parser parser, const std::string& body) {
  HttpRequest http;
  http.body = body;
  return ParseWith(parser, http);
}

CompletionRequest Completion(const std::string& fields) {
  auto parsed = Parse(ParseCompletion, "{\"model\":\"m\"," + fields + "}");
  if (const auto* error = std::get_if<ApiError>(&parsed)) ADD_FAILURE() << fields << ": " << error->message;
  return std::holds_alternative<CompletionRequest>(parsed) ? std::get<CompletionRequest>(parsed) : CompletionRequest();
}
CompletionRequest Chat(const std::string& fields) {
  auto parsed = Parse(ParseChat, "{\"model\":\"m\"," + fields + "}");
  if (const auto* error = std::get_if<ApiError>(&parsed)) ADD_FAILURE() << fields << ": " << error->message;
  return std::holds_alternative<CompletionRequest>(parsed) ? std::get<CompletionRequest>(parsed) : CompletionRequest();
}
template <typename Parser>
ApiError Refused(Parser parser, const std::string& body) {
  auto parsed = Parse(parser, body);
  if (auto* error = std::get_if<ApiError>(&parsed)) return *error;
  ADD_FAILURE() << "was taken: " << body;
  return {.status = 0};
}

constexpr char kHello[] = R"("messages":[{"role":"user","content":"hello"}])";

TEST(CompletionRequest, EveryFormOfPrompt) {
  EXPECT_EQ(Completion(R"("prompt":"once")").prompts[0].text(), "once");
  EXPECT_EQ(Completion(R"("prompt":["a","b"])").prompts[1].text(), "b");
  EXPECT_THAT(Completion(R"("prompt":[1,2])").prompts[0].token_ids().ids(), ElementsAre(1, 2));
  EXPECT_THAT(Completion(R"("prompt":[[1],[2,3]])").prompts[1].token_ids().ids(), ElementsAre(2, 3));
  for (const char* bad : {"[]", "{}", "7", "[1,\"a\"]", "[-1]", "[4294967296]", "[[]]", "[1.5]"}) {
    EXPECT_EQ(Refused(ParseCompletion, absl::StrCat("{\"model\":\"m\",\"prompt\":", bad, "}")).param, "prompt") << bad;
  }
}

TEST(CompletionRequest, SamplingAndStopping) {
  const auto request = Completion(
      R"("prompt":"a","temperature":0.5,"top_p":0.9,"top_k":7,"min_p":0.1,"presence_penalty":1,"frequency_penalty":-1,)"
      R"("repetition_penalty":1.1,"seed":-3,"max_tokens":9,"min_tokens":2,"stop":["x","y"],"stop_token_ids":[5],)"
      R"("ignore_eos":true,"logprobs":3,"stream":true,"stream_options":{"include_usage":true},"priority":-4,)"
      R"("prompt_cache_key":"s","include_stop_str_in_output":true)");
  const v1::GenerateRequest& call = request.prompts[0];
  EXPECT_FLOAT_EQ(call.sampling().temperature(), 0.5f);
  EXPECT_EQ(call.sampling().top_k(), 7);
  EXPECT_EQ(call.sampling().seed(), static_cast<uint64_t>(-3));
  EXPECT_EQ(call.stopping().max_tokens(), 9u);
  EXPECT_THAT(call.stopping().stop(), ElementsAre("x", "y"));
  EXPECT_THAT(call.stopping().stop_token_ids(), ElementsAre(5));
  EXPECT_TRUE(call.stopping().ignore_eos());
  EXPECT_EQ(call.logprobs(), 3u);
  EXPECT_EQ(call.priority(), 4) << "vLLM serves the lowest number first";
  EXPECT_EQ(call.session_id(), "s");
  EXPECT_TRUE(request.stream && request.include_usage && request.include_stop);
}

TEST(CompletionRequest, NullIsAbsentAndTheUnknownIsTolerated) {
  const auto request = Completion(
      R"("prompt":"a","temperature":null,"max_tokens":null,"stop":null,"tools":null,"logit_bias":null,"n":null,)"
      R"("stream_options":null,"user":"u","metadata":{"a":1},"store":true,"whatever":[1])");
  EXPECT_FALSE(request.prompts[0].sampling().has_temperature());
  EXPECT_EQ(request.prompts[0].stopping().max_tokens(), 16u) << "OpenAI's default";
  EXPECT_EQ(request.n, 1);
}

TEST(CompletionRequest, WhatChangesTheMeaningIsRefusedByName) {
  for (const auto& [name, value] :
       std::vector<std::pair<std::string, std::string>>{{"echo", "true"},
                                                        {"suffix", "\"s\""},
                                                        {"best_of", "3"},
                                                        {"logit_bias", "{\"5\":1}"},
                                                        {"response_format", "{\"type\":\"json_schema\"}"},
                                                        {"response_format", "{\"type\":\"json_object\"}"},
                                                        {"guided_json", "{}"},
                                                        {"use_beam_search", "true"},
                                                        {"prompt_logprobs", "0"},
                                                        {"truncate_prompt_tokens", "5"},
                                                        {"skip_special_tokens", "false"},
                                                        {"add_special_tokens", "false"}}) {
    const ApiError error =
        Refused(ParseCompletion, absl::StrCat(R"({"model":"m","prompt":"a",")", name, "\":", value, "}"));
    EXPECT_EQ(error.status, 400);
    EXPECT_EQ(error.param, name);
    EXPECT_EQ(error.code, "unsupported_parameter") << name;
    EXPECT_THAT(error.message, HasSubstr(name));
  }
  // The same names with values that change nothing.
  Completion(R"("prompt":"a","echo":false,"suffix":"","best_of":1,"logit_bias":{},"response_format":{"type":"text"},)"
             R"("skip_special_tokens":true,"use_beam_search":false,"tools":[],"tool_choice":"none")");
}

TEST(CompletionRequest, ChoicesHaveSeedsOfTheirOwn) {
  const auto request = Completion(R"("prompt":["a","b"],"n":2,"seed":1)");
  ASSERT_EQ(request.choices(), 4);
  EXPECT_EQ(request.ForChoice(0).sampling().seed(), 1u) << "one choice under a seed is the first of several";
  EXPECT_NE(request.ForChoice(1).sampling().seed(), request.ForChoice(0).sampling().seed());
  EXPECT_EQ(request.ForChoice(2).text(), "b");
  EXPECT_FALSE(Completion(R"("prompt":"a","n":2)").ForChoice(1).sampling().has_seed());
  EXPECT_EQ(Refused(ParseCompletion, R"({"model":"m","prompt":["a","b"],"n":100})").param, "n");
}

TEST(CompletionRequest, WrongKindsAreNamed) {
  EXPECT_THAT(Refused(ParseCompletion, R"({"model":"m","prompt":"a","temperature":"hot"})").message,
              HasSubstr("temperature must be a number, and is a string"));
  EXPECT_THAT(Refused(ParseCompletion, R"({"model":"m","prompt":"a","max_tokens":1.5})").message,
              HasSubstr("max_tokens must be a whole number, and is a fraction"));
  EXPECT_THAT(Refused(ParseCompletion, R"({"model":"m","prompt":"a","max_tokens":-1})").message,
              HasSubstr("max_tokens is -1; allowed are 1 to what the prompt leaves"));
  EXPECT_THAT(Refused(ParseCompletion, R"({"model":"m","prompt":"a","max_tokens":0})").message,
              HasSubstr("max_tokens is 0; allowed are 1"));
  EXPECT_THAT(Refused(ParseCompletion, R"({"model":"m","prompt":"a","seed":1e300})").message,
              HasSubstr("out of range"));
  EXPECT_THAT(Refused(ParseCompletion, R"({"model":"m","prompt":"a","stop":[1]})").message,
              HasSubstr("must hold strings"));
  EXPECT_EQ(Refused(ParseCompletion, R"({"model":7,"prompt":"a"})").param, "model");
  EXPECT_EQ(Completion(R"("prompt":"a","max_tokens":5.0)").prompts[0].stopping().max_tokens(), 5u);
}

TEST(DefaultModel, OneOfTheTaskOrTheOneThatAnswersToAnyName) {
  v1::ListModelsResponse list;
  const auto add = [&list](const char* name, const char* task) {
    v1::ServedModel* model = list.add_models();
    model->set_name(name);
    model->set_task(task);
    return model;
  };
  const auto refused = [&list](const char* task) { return std::get<ApiError>(DefaultModel(list, task)); };
  EXPECT_EQ(refused("generate").message, "model is missing, and no model of task generate is served");
  add("chat", "generate");
  add("vectors", "embed");
  EXPECT_EQ(std::get<std::string>(DefaultModel(list, "generate")), "chat");
  EXPECT_EQ(std::get<std::string>(DefaultModel(list, "embed")), "vectors");
  EXPECT_EQ(refused("").message, "model is missing; send one of chat, vectors");
  v1::ServedModel* other = add("other", "generate");
  EXPECT_EQ(refused("generate").param, "model");
  EXPECT_EQ(refused("generate").message, "model is missing; send one of chat, other");
  other->add_aliases("*");
  EXPECT_EQ(std::get<std::string>(DefaultModel(list, "generate")), "other");
  EXPECT_EQ(std::get<std::string>(DefaultModel(list, "")), "other");
}

TEST(DefaultModel, ARequestWithoutOneIsRead) {
  auto request = std::get<CompletionRequest>(Parse(ParseCompletion, R"({"prompt":["a","b"]})"));
  EXPECT_EQ(request.model, "");
  request.set_model("m");
  EXPECT_EQ(request.model, "m");
  for (const auto& prompt : request.prompts) EXPECT_EQ(prompt.model(), "m");
}

TEST(ChatRequest, Messages) {
  const auto request = Chat(
      R"("messages":[{"role":"system","content":"be kind"},)"
      R"({"role":"user","name":"ann","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},)"
      R"({"role":"assistant","content":null,"tool_calls":[{"id":"1"}]},)"
      R"({"role":"tool","tool_call_id":"1","content":"7"}],)"
      R"("chat_template_kwargs":{"enable_thinking":false},"continue_final_message":true,"add_generation_prompt":false)");
  const v1::ChatPrompt& chat = request.prompts[0].chat();
  ASSERT_EQ(chat.messages_size(), 4);
  EXPECT_EQ(chat.messages(0).content(), "be kind");
  EXPECT_EQ(chat.messages(1).parts(1).text(), "b");
  EXPECT_EQ(chat.messages(1).name(), "ann");
  EXPECT_EQ(chat.messages(2).tool_calls_json(), R"([{"id":"1"}])");
  EXPECT_EQ(chat.messages(3).tool_call_id(), "1");
  EXPECT_EQ(chat.template_kwargs_json(), R"({"enable_thinking":false})");
  EXPECT_TRUE(chat.continue_final_message() && chat.has_add_generation_prompt() && !chat.add_generation_prompt());
}

TEST(ChatRequest, LengthsAndLogprobs) {
  EXPECT_FALSE(Chat(kHello).prompts[0].stopping().has_max_tokens()) << "what the context leaves";
  EXPECT_EQ(Chat(absl::StrCat(kHello, R"(,"max_tokens":5)")).prompts[0].stopping().max_tokens(), 5u);
  EXPECT_EQ(
      Chat(absl::StrCat(kHello, R"(,"max_tokens":5,"max_completion_tokens":7)")).prompts[0].stopping().max_tokens(),
      7u);
  EXPECT_EQ(Chat(absl::StrCat(kHello, R"(,"logprobs":true,"top_logprobs":4)")).prompts[0].logprobs(), 4u);
  EXPECT_FALSE(Chat(absl::StrCat(kHello, R"(,"logprobs":false,"top_logprobs":0)")).prompts[0].has_logprobs());
  EXPECT_EQ(Refused(ParseChat, absl::StrCat(R"({"model":"m",)", kHello, R"(,"top_logprobs":4})")).param,
            "top_logprobs");
}

TEST(ChatRequest, ToolsGoOnAsTheyWereWritten) {
  const std::string tools = R"([{"type": "function", "function": {"name": "f", "parameters": {"b": 1, "a": "]"}}}])";
  const CompletionRequest request = Chat(absl::StrCat(kHello, ", \"tools\" : ", tools, R"(,"tool_choice":"auto")"));
  EXPECT_EQ(request.prompts[0].chat().tools_json(), tools) << "the order of keys is what the model was trained on";
  EXPECT_THAT(request.tools.offered, ElementsAre(Field(&Tool::name, "f")));
  EXPECT_FALSE(request.tools.elder || request.tools.one_call);
  EXPECT_TRUE(Chat(absl::StrCat(kHello, ",\"parallel_tool_calls\":false,\"tools\":", tools)).tools.one_call);

  const CompletionRequest none = Chat(absl::StrCat(kHello, ",\"tools\":", tools, R"(,"tool_choice":"none")"));
  EXPECT_FALSE(none.tools.any()) << "what may be called, and then must not be, changes nothing";
  EXPECT_EQ(none.prompts[0].chat().tools_json(), "");
  EXPECT_FALSE(Chat(absl::StrCat(kHello, R"(,"tools":[],"tool_choice":"auto")")).tools.any());
}

TEST(ChatRequest, FunctionsAreTheElderFormOfTools) {
  const CompletionRequest request =
      Chat(R"("messages":[{"role":"user","content":"a"},)"
           R"({"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}},)"
           R"({"role":"function","name":"f","content":"7"}],)"
           R"("functions":[{"name":"f","description":"d"}, {"name":"g"}],"function_call":"auto")");
  const v1::ChatPrompt& chat = request.prompts[0].chat();
  EXPECT_EQ(
      chat.tools_json(),
      R"([{"type": "function", "function": {"name":"f","description":"d"}}, {"type": "function", "function": {"name":"g"}}])");
  EXPECT_THAT(request.tools.offered, ElementsAre(Field(&Tool::name, "f"), Field(&Tool::name, "g")));
  EXPECT_TRUE(request.tools.elder && request.tools.one_call);
  EXPECT_EQ(chat.messages(1).tool_calls_json(), R"([{"function":{"arguments":"{}","name":"f"},"type":"function"}])");
  EXPECT_EQ(chat.messages(2).role(), "tool");
}

TEST(ChatRequest, BadToolsAreNamed) {
  const auto param = [](const std::string& fields) {
    return Refused(ParseChat, absl::StrCat(R"({"model":"m",)", kHello, ",", fields, "}")).param;
  };
  EXPECT_EQ(param(R"("tools":{})"), "tools");
  EXPECT_EQ(param(R"("tools":[1])"), "tools[0]");
  EXPECT_EQ(param(R"("tools":[{"type":"custom"}])"), "tools[0].type");
  EXPECT_EQ(param(R"("tools":[{"type":"function"}])"), "tools[0].function");
  EXPECT_EQ(param(R"("tools":[{"type":"function","function":{"name":""}}])"), "tools[0].function.name");
  EXPECT_EQ(param(R"("functions":[{"name":"f","parameters":[]}])"), "functions[0].parameters");
  EXPECT_EQ(param(R"("tool_choice":"required")"), "tool_choice");
  EXPECT_EQ(param(R"("tool_choice":{"type":"function","function":{"name":"f"}})"), "tool_choice");
  EXPECT_EQ(param(R"("tool_choice":"sometimes")"), "tool_choice");
  EXPECT_EQ(param(R"("functions":[{"name":"f"}],"function_call":{"name":"f"})"), "function_call");
  EXPECT_EQ(Refused(ParseCompletion, R"({"model":"m","prompt":"a","tools":[{"type":"function"}]})").param, "tools");
}

TEST(ChatRequest, BadMessagesAreNamed) {
  const auto param = [](const std::string& messages) {
    return Refused(ParseChat, absl::StrCat(R"({"model":"m","messages":)", messages, "}")).param;
  };
  EXPECT_EQ(param("[]"), "messages");
  EXPECT_EQ(param("\"hi\""), "messages");
  EXPECT_EQ(param("[7]"), "messages[0]");
  EXPECT_EQ(param(R"([{"content":"a"}])"), "messages[0].role");
  EXPECT_EQ(param(R"([{"role":"user","content":7}])"), "messages[0].content");
  EXPECT_EQ(param(R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://a/b"}}]}])"),
            "messages[0].content[0]");
}

TEST(Body, BombsAreRefusedBeforeTheyAreParsed) {
  const auto message = [](const std::string& body) { return Refused(ParseCompletion, body).message; };
  EXPECT_THAT(message(std::string(1 << 20, '[')), HasSubstr("nested deeper than 32"));
  EXPECT_THAT(message("{\"a\":[" + std::string(2 << 20, ',') + "]}"), HasSubstr("more than 1048576 values"));
  EXPECT_THAT(message("{\"a\":"), HasSubstr("at byte 6 of 5"));
  EXPECT_THAT(message(""), HasSubstr("not JSON"));
  EXPECT_THAT(message("[1]"), HasSubstr("must be a JSON object, and is an array"));
  EXPECT_THAT(message("{\"a\":1e999}"), HasSubstr("out of range"));
  EXPECT_THAT(message("{\"a\":\"\xff\"}"), HasSubstr("not JSON"));
  EXPECT_THAT(message("{\"a\":\"\\ud800\"}"), HasSubstr("not JSON"));
}

TEST(Embedding, EveryFormOfInput) {
  const auto parse = [](const std::string& fields) {
    return std::get<EmbeddingRequest>(Parse(ParseEmbedding, "{\"model\":\"m\"," + fields + "}"));
  };
  EXPECT_EQ(parse(R"("input":"a")").call.inputs(0).text(), "a");
  EXPECT_EQ(parse(R"("input":["a","b"])").call.inputs_size(), 2);
  EXPECT_THAT(parse(R"("input":[1,2])").call.inputs(0).token_ids().ids(), ElementsAre(1, 2));
  EXPECT_EQ(parse(R"("input":[[1],[2]])").call.inputs_size(), 2);
  EXPECT_FALSE(parse(R"("input":"a","encoding_format":null)").base64);
  EXPECT_TRUE(parse(R"("input":"a","encoding_format":"base64","dimensions":8)").base64);
  EXPECT_EQ(Refused(ParseEmbedding, R"({"model":"m","input":[]})").param, "input");
  EXPECT_EQ(Refused(ParseEmbedding, R"({"model":"m","input":"a","encoding_format":"hex"})").param, "encoding_format");
}

// "png" in base64, in all the places where clients put a picture.
TEST(Embedding, EveryFormOfAPicture) {
  for (
      const char* input : {
          R"("input":"data:image/png;base64,cG5n")",
          R"("input":["DATA:image/JPEG;base64,cG5n"])",
          R"("input":{"image":"data:image/jpg;name=a.jpg;base64,cG5n"})",
          R"("input":[{"image":"cG5n"}])",
          R"("input":[{"type":"image_url","image_url":{"url":"data:image/png;base64,cG5n"}}])",
          R"("input":[{"type":"image_url","image_url":"data:image/png;base64,cG5n"}])",
          R"("messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,cG5n"}}]}])",
      }) {
    const auto parsed = Parse(ParseEmbedding, absl::StrCat(R"({"model":"m",)", input, "}"));
    ASSERT_TRUE(std::holds_alternative<EmbeddingRequest>(parsed)) << input;
    const auto& call = std::get<EmbeddingRequest>(parsed).call;
    ASSERT_EQ(call.inputs_size(), 1) << input;
    EXPECT_EQ(call.inputs(0).image(), "png") << input;
  }
  const auto refused = [](const std::string& fields) {
    return Refused(ParseEmbedding, R"({"model":"m",)" + fields + "}").message;
  };
  EXPECT_THAT(refused(R"("input":[{"image":"https://a/b.png"}])"), HasSubstr("nothing is fetched"));
  EXPECT_THAT(refused(R"("input":[{"image_url":{"url":"file:///a"}}])"), HasSubstr("nothing is fetched"));
  EXPECT_THAT(refused(R"("input":["data:image/gif;base64,cG5n"])"), HasSubstr("image/png and image/jpeg"));
  EXPECT_THAT(refused(R"("input":["data:image/png;base64"])"), HasSubstr("without a comma"));
  EXPECT_THAT(refused(R"("input":["data:image/png,cG5n"])"), HasSubstr("not base64"));
  EXPECT_THAT(refused(R"("input":[{"image":"?"}])"), HasSubstr("no picture in base64"));
  EXPECT_THAT(refused(R"("input":"a","messages":[])"), HasSubstr("both set"));
  EXPECT_THAT(refused(R"("messages":[{"role":"user","content":[]}])"), HasSubstr("one part"));
}

TEST(Rerank, DocumentsAsStringsOrObjects) {
  const auto question = std::get<RerankQuestion>(
      Parse(ParseRerank, R"({"model":"m","query":"q","documents":["a",{"text":"b"}],"top_n":1,"rank_fields":null})"));
  EXPECT_THAT(question.call.documents(), ElementsAre("a", "b"));
  EXPECT_EQ(question.call.top_n(), 1u);
  EXPECT_EQ(Refused(ParseRerank, R"({"model":"m","query":"q","documents":[7]})").param, "documents");
  EXPECT_EQ(Refused(ParseRerank, R"({"model":"m","documents":["a"]})").param, "query");
}

}  // namespace
}  // namespace tandem::gateway
