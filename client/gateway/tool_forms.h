// The forms in which models write a call of a tool, each read from a text that has come whole. Where such a text begins
// and ends in what a model writes is ToolCallReader's to find.
//
// A call is one only if it names a tool on offer; else the functions here return nothing. Pure.
#ifndef TANDEM_CLIENT_GATEWAY_TOOL_FORMS_H_
#define TANDEM_CLIENT_GATEWAY_TOOL_FORMS_H_

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tandem::gateway {

// How a value is to be taken that a model writes without quotes.
enum class ParameterKind {
  kText,        // as it is
  kTextOrNull,  // so too, but for "null"
  kJson,        // a number, a list, ...: JSON where it is that
};

// One tool on offer, as far as finding calls of it needs.
struct Tool {
  std::string name;
  std::map<std::string, ParameterKind> parameters = {};  // that are declared; all others are text
};
using Tools = std::vector<Tool>;

// `schema`: JSON Schema of the parameters, an object; null for none.
Tool MakeTool(std::string name, const nlohmann::json* schema);

struct ToolCall {
  std::string name;
  std::string arguments;  // JSON; an object, unless the model wrote a string that says what it is
};

// {"name": "f", "arguments": {..}}, or "parameters" for the latter.
std::optional<ToolCall> ParseJsonCall(const Tools& tools, absl::string_view object);

// f and {..}.
std::optional<ToolCall> ParseNamedCall(const Tools& tools, absl::string_view name, absl::string_view arguments);

// [{"name": "f", ...}, ...]: all of them, or none.
std::vector<ToolCall> ParseJsonCalls(const Tools& tools, absl::string_view array);

// What stands between "<function=" and "</function>": f><parameter=x>value</parameter>.., or f>{"x": ..}.
std::optional<ToolCall> ParseFunctionCall(const Tools& tools, absl::string_view text);

// f <arg_key>x</arg_key> <arg_value>value</arg_value> ..
std::optional<ToolCall> ParsePairsCall(const Tools& tools, absl::string_view text);

// Between DeepSeek's marks of a call: f SEP {..}, or the older function SEP f, and a block of JSON in a fence.
inline constexpr absl::string_view kDeepSeekSeparator = "<\uFF5Ctool\u2581sep\uFF5C>";
std::optional<ToolCall> ParseDeepSeekCall(const Tools& tools, absl::string_view text);

// f.call(x="value"), or [f(x="value"), g()]: all of them, or none.
std::vector<ToolCall> ParsePythonCalls(const Tools& tools, absl::string_view text);

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_TOOL_FORMS_H_
