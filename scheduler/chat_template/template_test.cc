#include "scheduler/chat_template/template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "scheduler/chat_template/chat_template.h"
#include "scheduler/chat_template/json_value.h"

namespace tandem::chat {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// Renders with the variables of a JSON object; an error is its message.
std::string Render(absl::string_view source, absl::string_view variables = "{}", const Limits& limits = {}) {
  const auto parsed = Template::Parse(source);
  if (!parsed.ok()) return std::string(parsed.status().message());
  const auto values = ParseJsonValue(variables, "variables");
  if (!values.ok()) return std::string(values.status().message());
  const auto prompt = parsed->Render(values->dict(), limits, absl::UnixEpoch());
  return prompt.ok() ? prompt->bytes() : std::string(prompt.status().message());
}

TEST(WhiteSpace, TagsTakeTheirLine) {
  EXPECT_EQ(Render("a\n  {% if true %}\nb\n  {% endif %}\nc\n"), "a\nb\nc");
  EXPECT_EQ(Render("a {%- if true -%} b {%- endif %} c"), "ab c");
  EXPECT_EQ(Render("a\n  {%+ if true +%}\nb{% endif %}"), "a\n  \nb");
  EXPECT_EQ(Render("  {{ 1 }}\n  {# no #}\nx"), "  1\nx");
  EXPECT_EQ(Render("{% raw %}{{ x }}\n{% endraw %}\ny"), "{{ x }}\ny");
  EXPECT_EQ(Render("{% if true %}  {% endif %}x"), "  x");
  EXPECT_EQ(Render("a\r\nb\rc\n"), "a\nb\nc");
}

TEST(Expressions, PythonsRules) {
  EXPECT_EQ(Render("{{ 7 // -2 }} {{ 7 % -2 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ -3 ** 2 }}"), "-4 -1 3.5 1024 9");
  EXPECT_EQ(Render("{{ 1 ~ 3 * 2 }} {{ 'a' ~ none ~ true }}"), "16 aNoneTrue");
  EXPECT_EQ(Render("{{ 1 + 2 ~ 3 }}"), "line 1: '+' is not defined for int and str");  // ~ binds first
  EXPECT_EQ(Render("{{ 1 < 2 < 3 }} {{ 1 == 1.0 }} {{ not 1 in [2] }}"), "True True True");
  EXPECT_EQ(Render("{{ [1, 'a', none, {'b': (2,)}] }}"), "[1, 'a', None, {'b': (2,)}]");
  EXPECT_EQ(Render("{{ 'it' if false }}{{ 'x' if 0 else 'y' }}"), "y");
  EXPECT_EQ(Render("{{ 'abcdef'[1:-1:2] }}{{ 'abc'[::-1] }}{{ [1,2,3][-2:] }}"), "bdcba[2, 3]");
  EXPECT_EQ(Render("{{ 1e16 }} {{ 0.1 }} {{ 1e-5 }} {{ 100.0 }}"), "1e+16 0.1 1e-05 100.0");
  EXPECT_EQ(Render("{{ \"a'b\" }}{{ ['a\\'b', 'c\"\\n'] }}"), "a'b[\"a'b\", 'c\"\\n']");
  EXPECT_EQ(Render("{{ x.a }}|{{ x['b'] }}|{{ x.items() | list }}", R"({"x": {"a": 1, "items": 2}})"),
            "1||[('a', 1), ('items', 2)]");
}

TEST(Scopes, ALoopKeepsItsOwn) {
  EXPECT_EQ(Render("{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = 5 %}{{ x }}{% endfor %}{{ x }}"), "15151");
  EXPECT_EQ(Render("{% set n = namespace(x=0) %}{% for i in [1, 2] %}{% set n.x = n.x + i %}{% endfor %}{{ n.x }}"),
            "3");
  EXPECT_EQ(Render("{% if true %}{% set x = 2 %}{% endif %}{{ x }}"), "2");
  EXPECT_EQ(Render("{% macro m(a, b=2) %}{{ a }}{{ b }}{{ y }}{% endmacro %}{% set y = 3 %}{{ m(1) }}{{ m(1, b=5) }}"),
            "123153");
  EXPECT_EQ(Render("{% for a, b in [[1, 2], [3, 4]] if a > 1 %}{{ a }}{{ b }}{{ loop.last }}{% else %}-{% endfor %}"),
            "34True");
  EXPECT_EQ(
      Render("{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i "
             "}}{% endfor %}"),
      "02");
}

TEST(Refusals, AreFoundAtLoadWithTheirLine) {
  for (const auto& [source, message] : std::initializer_list<std::pair<const char*, const char*>>{
           {"\n{{ x | nosuch }}", "line 2: filter nosuch is not supported"},
           {"{{ x is nosuch }}", "line 1: test nosuch is not supported"},
           {"{{ x.encode() }}", "line 1: method encode() is not supported"},
           {"a\n\n{% include 'x' %}", "line 3: {% include %} is not supported"},
           {"{% for x in y recursive %}{% endfor %}", "line 1: a recursive loop is not supported"},
           {"{{ f(*x) }}", "line 1: arguments with * or ** are not supported"},
           {"{% if x %}", "line 1: a block has no {% endif %}"},
           {"{{ x", "line 1: {{ has no end"},
           {"{{ (x|safe) + y }}", "line 1: filter safe is supported as the last step of {{ ... }} only"},
           {"{{ cycler(1) }}", "line 1: function cycler() is not supported"},
           {"{% break %}", "line 1: {% break %} outside of a loop"},
           {"{{ 99999999999999999999 }}", "line 1: a number that is too large"}}) {
    EXPECT_EQ(Render(source), message) << source;
    EXPECT_FALSE(Template::Parse(source).ok()) << source;
  }
}

TEST(Failures, NameTheLineAndNothingThatWasGiven) {
  EXPECT_EQ(Render("\n{{ x.y.z }}", R"({"x": {}})"), "line 2: 'y' of a dict is undefined");
  EXPECT_EQ(Render("{{ secret + 1 }}", R"({"secret": "s3cr3t"})"), "line 1: '+' is not defined for str and int");
  EXPECT_EQ(Render("{{ raise_exception('no ' + secret + '!') }}", R"({"secret": "s3cr3t"})"), "line 1: no [...]!");
}

TEST(Limits, EndATemplateThatDoesNot) {
  EXPECT_THAT(Render("{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}"),
              HasSubstr("needs more than 20000000 steps"));
  EXPECT_THAT(Render("{% set n = namespace(s='ab') %}{% for i in range(90) %}{% set n.s = n.s + n.s %}{% endfor %}"),
              HasSubstr("bytes"));
  EXPECT_THAT(Render("{{ 'ab' * 99999999999 }}"), HasSubstr("bytes"));
  EXPECT_THAT(Render("{{ [1] * 99999999999 }}"), HasSubstr("bytes"));
  EXPECT_THAT(Render("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), HasSubstr("levels"));
  EXPECT_THAT(Render("{% set n = namespace(l=[]) %}{% for i in range(99) %}{% set n.l = [n.l] %}{% endfor %}"),
              HasSubstr("nested too deeply"));
  EXPECT_THAT(Render("{% set n = namespace() %}{% set n.n = n %}"), HasSubstr("cannot be assigned"));
  EXPECT_THAT(Render("{{ [namespace()] }}"), HasSubstr("cannot hold"));
  EXPECT_THAT(Render("{{ 'abc' }}", "{}", {.output_bytes = 2}), HasSubstr("bytes of output"));
  EXPECT_THAT(Render(absl::StrCat("{{ ", std::string(5000, '('), "1", std::string(5000, ')'), " }}")),
              HasSubstr("too deeply"));
  std::string chain = "{{ 1";
  for (int i = 0; i < 5000; ++i) chain += " + 1";
  EXPECT_THAT(Render(chain + " }}"), HasSubstr("too many operators"));
  std::string blocks;
  for (int i = 0; i < 5000; ++i) blocks += "{% if true %}";
  EXPECT_THAT(Render(blocks), HasSubstr("too deeply"));
}

TEST(Given, IsFollowedThroughTheTemplate) {
  const auto own = [](absl::string_view source) {
    const auto prompt = Template::Parse(source)->Render(ParseJsonValue(R"({"x": "ABC"})", "")->dict(), {}, absl::Now());
    return prompt.ok() ? prompt->OwnOnly() : std::string(prompt.status().message());
  };
  EXPECT_EQ(own("<{{ x }}>"), "<[...]>");
  EXPECT_EQ(own("{{ '<' + x ~ '>' + x[1:] }}"), "<[...]>[...]");
  EXPECT_EQ(own("{% set y %}a{{ x | trim }}b{% endset %}{{ y.strip() }}"), "a[...]b");
  EXPECT_EQ(own("{{ ('a' + x) | lower }}"), "[...]");  // whole, since letters may have moved
  EXPECT_EQ(own("{{ ['a', x, 'b'] | join('-') }}"), "a-[...]-b");
  EXPECT_EQ(own("{{ [x] }}{{ {'k': x} | tojson }}{{ 'k' | tojson }}"), "[...]\"k\"");
  EXPECT_EQ(own("{% macro m(t) %}<{{ t }}>{% endmacro %}{{ m(x) }}"), "<[...]>");
  EXPECT_EQ(own("{{ 'aXb'.replace('X', x) }}-{{ x.split('B')[0] }}"), "[...]-[...]");
  EXPECT_EQ(own("{% for c in x %}{{ c }}.{% endfor %}"), "[...].[...].[...].");
}

std::shared_ptr<const ChatTemplate> Chat(absl::string_view source) {
  TemplateFiles files;
  files.source = std::string(source);
  auto made = ChatTemplate::Make(files);
  return made.ok() ? *made : nullptr;
}

TEST(ChatTemplate, PartsReachATemplateInTheFormThatItTakes) {
  Conversation parts;
  parts.messages.push_back({.role = "user", .parts = {"a", "b"}});
  Conversation text;
  text.messages.push_back({.role = "user", .content = "c"});
  const auto render = [](const auto& chat, const Conversation& c) { return chat->Render(c, {}, absl::Now())->bytes(); };
  const auto strings = Chat("{% for m in messages %}<{{ m.content }}>{% endfor %}");
  EXPECT_EQ(render(strings, parts), "<a\nb>");
  const auto lists = Chat("{% for m in messages %}{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endfor %}");
  EXPECT_EQ(render(lists, parts), "<a><b>");
  EXPECT_EQ(render(lists, text), "<c>");
}

TEST(ChatTemplate, WhatCannotBeRenderedIsRefusedAtLoad) {
  TemplateFiles files;
  files.origin = "m/tokenizer_config.json";
  files.source = "{{ messages[0].content | frobnicate }}";
  EXPECT_THAT(std::string(ChatTemplate::Make(files).status().message()),
              StartsWith("m/tokenizer_config.json: the chat template, line 1: filter frobnicate is not supported"));
  files.source = "{{ messages[0].content + 1 }}";
  EXPECT_FALSE(ChatTemplate::Make(files).ok());
  files.source = "{{ raise_exception('I want more turns') }}";
  EXPECT_TRUE(ChatTemplate::Make(files).ok());
}

TEST(ChatTemplate, VariablesCannotReplaceTheConversation) {
  const auto chat = Chat("{{ x }}{{ messages[0].content }}");
  Conversation conversation;
  conversation.messages.push_back({.role = "user", .content = "c"});
  conversation.template_kwargs_json = R"({"x": [1, "z"]})";
  EXPECT_EQ(chat->Render(conversation, {}, absl::Now())->bytes(), "[1, 'z']c");
  for (const char* bad : {R"({"messages": []})", "[]", "{", R"({"x": 99999999999999999999})"}) {
    conversation.template_kwargs_json = bad;
    EXPECT_FALSE(chat->Render(conversation, {}, absl::Now()).ok()) << bad;
  }
  conversation.template_kwargs_json = absl::StrCat(R"({"x": )", std::string(50, '['), std::string(50, ']'), "}");
  EXPECT_FALSE(chat->Render(conversation, {}, absl::Now()).ok());
}

}  // namespace
}  // namespace tandem::chat
