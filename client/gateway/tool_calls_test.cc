// Which texts are calls of tools, whole and in every way to cut them in two.
#include "client/gateway/tool_calls.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tandem::gateway {
namespace {

const std::vector<std::string> kNames = {"f", "get_weather"};

// The text that is shown, and after it each call as " -> name(arguments)".
std::string Read(const std::vector<std::string>& pieces, bool one_call = false) {
  ToolCallReader reader(&kNames, one_call);
  std::string text, calls;
  const auto add = [&](const ToolCallReader::Found& found) {
    text += found.text;
    for (const ToolCall& call : found.calls) absl::StrAppend(&calls, " -> ", call.name, "(", call.arguments, ")");
  };
  for (const std::string& piece : pieces) add(reader.Read(piece));
  add(reader.End());
  return text + calls;
}

void Expect(const std::string& written, const std::string& expected) {
  EXPECT_EQ(Read({written}), expected);
  for (size_t cut = 0; cut <= written.size(); ++cut) {
    ASSERT_EQ(Read({written.substr(0, cut), written.substr(cut)}), expected) << "cut at " << cut;
  }
}

TEST(ToolCalls, HermesAndQwen) {
  Expect("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"b\": 1, \"a\": \"}\\\"{\"}}\n</tool_call>",
         R"( -> f({"b": 1, "a": "}\"{"}))");
  Expect(
      "I "
      "look.\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>{\"name\":\"get_weather\"}</"
      "tool_call>",
      "I look.\n -> f({}) -> get_weather({})");
  Expect("\n<tool_call>{\"name\":\"f\",\"arguments\":{}}", " -> f({})");  // ended without its closing tag
  Expect("<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call> Done.", "Done. -> f({})");
}

TEST(ToolCalls, Mistral) {
  Expect(R"([TOOL_CALLS] [{"name": "f", "arguments": {"a": [1]}}, {"name": "get_weather", "arguments": {}}])",
         R"( -> f({"a": [1]}) -> get_weather({}))");
  Expect(R"( [{"name": "f", "arguments": {}}])", " -> f({})");
  Expect(R"(get_weather{"city": "Lyon"})", R"( -> get_weather({"city": "Lyon"}))");
  Expect(R"([TOOL_CALLS]get_weather{"city": "Lyon"})", R"( -> get_weather({"city": "Lyon"}))");
}

TEST(ToolCalls, Llama) {
  Expect(R"({"name": "get_weather", "parameters": {"city": "Lyon"}})", R"( -> get_weather({"city": "Lyon"}))");
  Expect(R"({"type": "function", "name": "f", "parameters": {}}; {"name": "f", "parameters": {"a": 1}})",
         R"( -> f({}) -> f({"a": 1}))");
  Expect(R"({"name": "f", "arguments": "{\"a\": 1}"})", R"( -> f({"a": 1}))");  // JSON within JSON
}

TEST(ToolCalls, AllElseIsText) {
  for (const char* text : {"",
                           " \n",
                           "The weather is fine.",
                           "<tool_call>",
                           "<tool_call>{\"name\": \"f\"",
                           "<tool_call>f()</tool_call>",
                           "<tool_call>{\"name\": \"unknown\", \"arguments\": {}}</tool_call>",
                           "{\"name\": \"unknown\", \"parameters\": {}}",
                           "{\"name\": \"f\", \"parameters\": 7}",
                           "{\"name\": \"f\", ",
                           "{\"answer\": 42}",
                           "[1, 2]",
                           "[TOOL_CALLS]",
                           "[TOOL_CALLS] none",
                           "f(x) = 2",
                           "f{x}",
                           "get_weather {\"city\": 1}",
                           "{\"name\": \"f\"]",
                           "a {\"name\": \"f\"}",
                           "[{\"name\": \"f\"}, {\"name\": \"unknown\"}]",
                           "a <tool_calls> b <",
                           " <tool_call> \xff"}) {
    Expect(text, text);
  }
}

TEST(ToolCalls, TextIsHeldNoLongerThanItMayBecomeACall) {
  ToolCallReader reader(&kNames, false);
  EXPECT_EQ(reader.Read("{\"name\": ").text, "");
  EXPECT_EQ(reader.Read("\"x").text, "{\"name\": \"x") << "no tool begins with x";
  EXPECT_EQ(reader.Read(" and < ").text, " and < ");
  EXPECT_EQ(reader.Read("<tool").text, "");
  EXPECT_EQ(reader.Read("box>").text, "<toolbox>");
  const std::string endless =
      absl::StrCat("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"", std::string(kLongestCall, 'x'));
  EXPECT_EQ(reader.Read(endless).text, endless);
}

TEST(ToolCalls, OneCallWhereOneIsAskedFor) {
  const std::string two = "<tool_call>{\"name\":\"f\"}</tool_call><tool_call>{\"name\":\"get_weather\"}</tool_call>";
  EXPECT_EQ(Read({two}, true), " -> f({})");
}

}  // namespace
}  // namespace tandem::gateway
