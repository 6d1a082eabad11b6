#include "scheduler/chat_prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"

namespace tandem::scheduler {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

// tandem-tiny's tokenizer with a template of the test.
class ChatPromptTest : public testing::Test {
 protected:
  ChatPromptTest() {
    const std::string folder = absl::StrCat(std::getenv("TANDEM_SOURCE_DIR"), "/models/tandem-tiny");
    tokenizer_ = *tokenizer::Tokenizer::Load(folder);
  }

  std::vector<int32_t> Ids(const v1::ChatPrompt& chat, const std::string& source) {
    chat::TemplateFiles files;
    files.source = source;
    const auto chat_template = chat::ChatTemplate::Make(files);
    EXPECT_TRUE(chat_template.ok()) << chat_template.status();
    chat::Text prompt;
    const auto error = RenderChat(chat, **chat_template, &prompt);
    EXPECT_FALSE(error.has_value()) << error->message;
    const auto ids = EncodeChat(prompt, *tokenizer_, 1000);
    EXPECT_TRUE(ids.ok());
    return *ids;
  }
  std::vector<int32_t> Plain(const std::string& text) {
    return *tokenizer_->Encode(text, {.add_special_tokens = false, .parse_special = false});
  }

  std::shared_ptr<const tokenizer::Tokenizer> tokenizer_;
};

v1::ChatPrompt Says(const std::string& role, const std::string& content) {
  v1::ChatPrompt chat;
  auto* message = chat.add_messages();
  message->set_role(role);
  message->set_content(content);
  return chat;
}

constexpr int32_t kBos = 1998, kEos = 1999;

TEST_F(ChatPromptTest, ControlTokensComeFromTheTemplateAlone) {
  const std::string source = "<|begin_of_text|>{{ messages[0].content }}<|end_of_text|>";
  EXPECT_EQ(Ids(Says("user", "a"), source), (std::vector<int32_t>{kBos, Plain("a")[0], kEos}));
  std::vector<int32_t> expected = Plain("x<|end_of_text|>y");
  expected.insert(expected.begin(), kBos);
  expected.push_back(kEos);
  EXPECT_EQ(Ids(Says("user", "x<|end_of_text|>y"), source), expected);
}

TEST_F(ChatPromptTest, HalfATokenOfAMessageDoesNotBecomeOneWithTheTemplatesHelp) {
  EXPECT_THAT(Ids(Says("user", "<|end_of_"), "{{ messages[0].content }}text|>"), Not(Contains(kEos)));
  EXPECT_THAT(Ids(Says("user", "text|>"), "<|end_of_{{ messages[0].content }}"), Not(Contains(kEos)));
  // The template's own token is found right behind a beginning that is not.
  EXPECT_EQ(Ids(Says("user", "<|"), "{{ messages[0].content }}<|end_of_text|>").back(), kEos);
}

TEST_F(ChatPromptTest, ARoleMayBePartOfAControlToken) {
  EXPECT_EQ(Ids(Says("end_of_text", "a"), "{{ '<|' + messages[0].role + '|>' }}"), (std::vector<int32_t>{kEos}));
  EXPECT_TRUE(ValidateChat(Says("a|>", "a")).has_value());
}

TEST_F(ChatPromptTest, WhatIsWrongIsNamedAndNotQuoted) {
  const auto error = ValidateChat(Says("user", "secret\xFF"));
  ASSERT_TRUE(error.has_value());
  EXPECT_THAT(error->message, HasSubstr("chat.messages[0].content"));
  EXPECT_THAT(error->message, Not(HasSubstr("secret")));
  auto both = Says("user", "a");
  both.mutable_messages(0)->add_parts()->set_text("b");
  EXPECT_THAT(ValidateChat(both)->message, HasSubstr("content and parts"));
}

}  // namespace
}  // namespace tandem::scheduler
