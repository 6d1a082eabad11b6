// Which texts are calls of tools, whole and in every way to cut them in two.
#include "client/gateway/tool_calls.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tandem::gateway {
namespace {

const Tools kTools = {
    {"f", {{"n", ParameterKind::kJson}, {"m", ParameterKind::kTextOrNull}, {"t", ParameterKind::kText}}},
    {"get_weather"}};

// The text that is shown, and after it each call as " -> name(arguments)".
std::string Read(const std::vector<std::string>& pieces, bool one_call = false) {
  ToolCallReader reader(&kTools, one_call);
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

TEST(ToolCalls, QwenCoder) {
  const std::string call =
      "<function=f>\n<parameter=t>\nfirst\n  second <b>\n</parameter>\n<parameter=n>\n[1, "
      "2]\n</parameter>\n</function>";
  const std::string expected = R"( -> f({"t": "first\n  second <b>", "n": [1, 2]}))";
  Expect("<tool_call>\n" + call + "\n</tool_call>", expected);
  Expect("<tool_call>\n" + call, expected);  // ended without its outer closing tag
  Expect("I look.\n" + call, "I look.\n" + expected);
  Expect("<tool_call><function=f></function></tool_call>\n<tool_call><function=get_weather></function></tool_call>",
         " -> f({}) -> get_weather({})");
  Expect("<function=f><parameter=n>True</parameter></function>", R"( -> f({"n": true}))");
  Expect("<function=f><parameter=n>seven</parameter></function>", R"( -> f({"n": "seven"}))");
  Expect("<function=f><parameter=n>{'a': None}</parameter></function>", R"( -> f({"n": {"a":null}}))");
  Expect("<function=f><parameter=t>7</parameter></function>", R"( -> f({"t": "7"}))");  // a text stays one
  Expect("<function=f><parameter=m>null</parameter></function>", R"( -> f({"m": null}))");
  Expect("<function=f><parameter=u>7</parameter></function>", R"( -> f({"u": "7"}))");  // nobody has declared it
  Expect("<function=f><parameter=t>a<parameter=n>1</parameter></function>", R"( -> f({"t": "a", "n": 1}))");
  Expect("<function=f><parameter=t>a</parameter><parameter=t>b</parameter></function>", R"( -> f({"t": "b"}))");
  Expect(R"(<function=get_weather>{"city": "Lyon"}</function>)", R"( -> get_weather({"city": "Lyon"}))");
}

TEST(ToolCalls, Glm) {
  Expect(
      "<think></think>\n<tool_call>f\n<arg_key>t</arg_key>\n<arg_value>a b</arg_value>\n<arg_key>n</arg_key>\n"
      "<arg_value>2.5</arg_value>\n</tool_call>\n<tool_call>get_weather</tool_call>",
      "<think></think>\n -> f({\"t\": \"a b\", \"n\": 2.5}) -> get_weather({})");
}

TEST(ToolCalls, DeepSeek) {
  const std::string begin = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>", sep = "<｜tool▁sep｜>",
                    end = "<｜tool▁call▁end｜>", all = "<｜tool▁calls▁end｜>";
  Expect("So.\n" + begin + "f" + sep + "{\"t\": 1}" + end + "<｜tool▁call▁begin｜>get_weather" + sep + "{}" + end + all,
         "So.\n -> f({\"t\": 1}) -> get_weather({})");
  Expect(begin + "function" + sep + "f\n```json\n{\"t\": 1}\n```" + end + all, " -> f({\"t\": 1})");
  Expect("<｜tool▁call▁begin｜>f" + sep + "{}" + end, " -> f({})");
  for (const std::string& text : {begin, begin + "f", begin + "f" + sep + "{}", begin + "f" + sep + "[1]" + end,
                                  begin + "g" + sep + "{}" + end, std::string("<｜tool▁calls▁begin｜> none")}) {
    Expect(text, text);
  }
}

TEST(ToolCalls, Python) {
  Expect(R"(get_weather.call(city="Lyon", days=[1, 2.50, -3], deep={'a': (True, None)}, text='it\'s "\u00e9"'))",
         R"( -> get_weather({"city":"Lyon","days":[1,2.50,-3],"deep":{"a":[true,null]},"text":"it's \"é\""}))");
  Expect("<|python_tag|>get_weather.call()", " -> get_weather({})");
  Expect(R"(<|python_tag|>{"name": "f", "parameters": {}})", " -> f({})");
  Expect("[get_weather(city='Lyon'), f( n = 1, )]", R"( -> get_weather({"city":"Lyon"}) -> f({"n":1}))");
  for (const char* text : {"get_weather.call", "get_weather.call(", "get_weather.call(city)",
                           "get_weather.call(city='a'", "get_weather.call(1)", "get_weather.call(city=open('a'))",
                           "get_weather.call(city='a)", "f()", "[f(n=1), unknown()]", "[f(n=1) f()]", "[f(n=)]",
                           "[f(n=1]", "[f]", "<|python_tag|>print(1)", "a [f(n=1)]", "[f(n=1e999)]", "[f(n={1: 2})]"}) {
    Expect(text, text);
  }
}

// A value that nests too deep is no call, and no reason to fall over.
TEST(ToolCalls, NestingHasABound) {
  const auto nested = [](int depth) {
    return absl::StrCat("[f(n=", std::string(depth, '['), std::string(depth, ']'), ")]");
  };
  EXPECT_EQ(Read({nested(32)}), absl::StrCat(" -> f({\"n\":", std::string(32, '['), std::string(32, ']'), "})"));
  for (const int depth : {40, 100000}) EXPECT_EQ(Read({nested(depth)}), nested(depth));
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
                           "<function=unknown></function>",
                           "<function=f>",
                           "<function=f><parameter=t>a</parameter>",
                           "<function=f>{1}</function>",
                           "<function=f>words</function>",
                           "<function=f><parameter=t</function>",
                           "<tool_call>get_weather",
                           "<tool_call>get_weather\n<arg_key>a</arg_key>",
                           "<tool_call>f<arg_key>a</arg_key>b</tool_call>",
                           " <tool_call> \xff"}) {
    Expect(text, text);
  }
}

TEST(ToolCalls, TextIsHeldNoLongerThanItMayBecomeACall) {
  ToolCallReader reader(&kTools, false);
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
