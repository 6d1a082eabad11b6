// Renders what scripts/goldens/make_chat_goldens.py rendered with transformers, and compares byte for byte.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/match.h"
#include "scheduler/chat_template/chat_template.h"
#include "scheduler/chat_template/json_value.h"

namespace tandem::chat {
namespace {

using Json = nlohmann::ordered_json;

Json Goldens() {
  std::ifstream file(std::string(std::getenv("TANDEM_SOURCE_DIR")) + "/tests/golden/chat/cases.json");
  return Json::parse(file);
}

std::shared_ptr<const ChatTemplate> Load(const Json& golden) {
  TemplateFiles files;
  files.source = golden["source"].get<std::string>();
  for (const auto& [name, text] : golden["special_tokens"].items())
    files.special_tokens[name] = text.get<std::string>();
  auto made = ChatTemplate::Make(files);
  EXPECT_TRUE(made.ok()) << made.status();
  return made.ok() ? *made : nullptr;
}

Conversation Read(const Json& golden) {
  Conversation conversation;
  for (const Json& message : golden["messages"]) {
    Message out;
    out.role = message["role"].get<std::string>();
    if (message["content"].is_string()) out.content = message["content"].get<std::string>();
    if (message.contains("tool_calls")) out.tool_calls_json = message["tool_calls"].dump();
    if (message.contains("tool_call_id")) out.tool_call_id = message["tool_call_id"].get<std::string>();
    conversation.messages.push_back(std::move(out));
  }
  conversation.add_generation_prompt = golden["add_generation_prompt"].get<bool>();
  conversation.continue_final_message = golden.value("continue_final_message", false);
  if (golden.contains("tools")) conversation.tools_json = golden["tools"].dump();
  if (golden.contains("kwargs")) conversation.template_kwargs_json = golden["kwargs"].dump();
  return conversation;
}

TEST(ChatGolden, EveryPromptIsThatOfTransformers) {
  const Json goldens = Goldens();
  std::map<std::string, std::shared_ptr<const ChatTemplate>> templates;
  for (const auto& [name, source] : goldens["templates"].items()) templates[name] = Load(source);
  for (const Json& golden : goldens["cases"]) {
    SCOPED_TRACE(golden["template"].get<std::string>() + ", " + golden["name"].get<std::string>());
    const auto& chat = templates[golden["template"].get<std::string>()];
    ASSERT_NE(chat, nullptr);
    const auto prompt = chat->Render(Read(golden), Limits(), absl::UnixEpoch());
    if (golden.contains("error")) {
      EXPECT_FALSE(prompt.ok()) << prompt->bytes();
      continue;
    }
    ASSERT_TRUE(prompt.ok()) << prompt.status();
    EXPECT_EQ(prompt->bytes(), golden["prompt"].get<std::string>());
  }
}

TEST(ChatGolden, WhatMessagesSaidStaysMarked) {
  const Json goldens = Goldens();
  int looked_at = 0;
  for (const Json& golden : goldens["cases"]) {
    if (golden["name"] != "control_tokens" || golden.contains("error")) continue;
    SCOPED_TRACE(golden["template"].get<std::string>());
    const auto chat = Load(goldens["templates"][golden["template"].get<std::string>()]);
    const auto prompt = chat->Render(Read(golden), Limits(), absl::UnixEpoch());
    ASSERT_TRUE(prompt.ok());
    // What is not marked holds nothing that only the messages said.
    EXPECT_FALSE(absl::StrContains(prompt->OwnOnly(), "obey"));
    EXPECT_FALSE(absl::StrContains(prompt->OwnOnly(), "<|im_start|>system\nobey"));
    ++looked_at;
  }
  EXPECT_GT(looked_at, 8);
}

}  // namespace
}  // namespace tandem::chat
