#include "client/gateway/tool_forms.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/gateway/json_text.h"
#include "client/gateway/python_value.h"
#include "client/gateway/raw_json.h"

namespace tandem::gateway {
namespace {

using nlohmann::json;

json Parse(absl::string_view text) { return json::parse(text.begin(), text.end(), nullptr, false); }

const Tool* Find(const Tools& tools, absl::string_view name) {
  const auto found = absl::c_find_if(tools, [name](const Tool& tool) { return tool.name == name; });
  return found == tools.end() ? nullptr : &*found;
}

// A schema without a type, or one that may be several things, is text where a string is among them: what a model wrote
// as words must not become a number.
ParameterKind KindOfSchema(const json& schema) {
  if (!schema.is_object()) return ParameterKind::kText;
  bool text = false, null = false, typed = false;
  const auto add = [&](const json& type) {
    typed = typed || type.is_string();
    text = text || type == "string";
    null = null || type == "null";
  };
  const auto add_types = [&](const json& one) {
    const auto type = one.find("type");
    if (type == one.end()) return;
    if (type->is_array()) {
      for (const json& each : *type) add(each);
    } else {
      add(*type);
    }
  };
  add_types(schema);
  for (const char* key : {"anyOf", "oneOf"}) {
    const auto choices = schema.find(key);
    if (choices == schema.end() || !choices->is_array()) continue;
    for (const json& choice : *choices) {
      if (choice.is_object()) add_types(choice);
    }
  }
  if (typed && !text) return ParameterKind::kJson;
  return null ? ParameterKind::kTextOrNull : ParameterKind::kText;
}

// Arguments in the order in which they were written; of two of the same name the later one counts.
class Arguments {
 public:
  explicit Arguments(const Tool& tool) : tool_(tool) {}

  void Add(absl::string_view name, absl::string_view written) {
    std::string value = Value(name, written);
    const auto known = absl::c_find_if(members_, [name](const auto& member) { return member.first == name; });
    if (known != members_.end()) {
      known->second = std::move(value);
    } else {
      members_.emplace_back(name, std::move(value));
    }
  }
  ToolCall Call() const {
    std::string object = "{";
    for (const auto& [name, value] : members_) {
      absl::StrAppend(&object, object.size() > 1 ? ", " : "", JsonString(name), ": ", value);
    }
    return {tool_.name, object + "}"};
  }

 private:
  std::string Value(absl::string_view name, absl::string_view written) const {
    const auto declared = tool_.parameters.find(std::string(name));
    const ParameterKind kind = declared == tool_.parameters.end() ? ParameterKind::kText : declared->second;
    const absl::string_view dense = absl::StripAsciiWhitespace(written);
    if (kind == ParameterKind::kTextOrNull && (dense == "null" || dense == "None")) return "null";
    if (kind != ParameterKind::kJson) return JsonString(written);
    if (json::accept(dense.begin(), dense.end())) return std::string(dense);
    std::string python;
    absl::string_view rest = dense;
    if (ConsumePythonValue(&rest, &python) && rest.empty()) return python;
    return JsonString(written);
  }

  const Tool& tool_;
  std::vector<std::pair<std::string, std::string>> members_;
};

// Takes off `text` what stands before `mark`, and the mark. False: it is not there.
bool ConsumeUntil(absl::string_view* text, absl::string_view mark, absl::string_view* before) {
  const size_t at = text->find(mark);
  if (at == absl::string_view::npos) return false;
  *before = text->substr(0, at);
  text->remove_prefix(at + mark.size());
  return true;
}

}  // namespace

Tool MakeTool(std::string name, const json* schema) {
  Tool tool{.name = std::move(name)};
  if (schema == nullptr || !schema->is_object()) return tool;
  const auto properties = schema->find("properties");
  if (properties == schema->end() || !properties->is_object()) return tool;
  for (const auto& [parameter, each] : properties->items()) tool.parameters[parameter] = KindOfSchema(each);
  return tool;
}

std::optional<ToolCall> ParseJsonCall(const Tools& tools, absl::string_view object) {
  const json call = Parse(object);
  if (!call.is_object()) return std::nullopt;
  const auto name = call.find("name");
  if (name == call.end() || !name->is_string() || Find(tools, name->get_ref<const std::string&>()) == nullptr) {
    return std::nullopt;
  }
  for (const char* key : {"arguments", "parameters"}) {
    const auto arguments = call.find(key);
    if (arguments == call.end()) continue;
    if (arguments->is_string()) return ToolCall{*name, *arguments};  // JSON within JSON
    if (!arguments->is_object()) return std::nullopt;
    const auto written = RawMember(object, key);
    return ToolCall{*name, written.has_value() ? std::string(*written) : arguments->dump()};
  }
  return ToolCall{*name, "{}"};
}

std::optional<ToolCall> ParseNamedCall(const Tools& tools, absl::string_view name, absl::string_view arguments) {
  const Tool* tool = Find(tools, absl::StripAsciiWhitespace(name));
  if (tool == nullptr || !Parse(arguments).is_object()) return std::nullopt;
  return ToolCall{tool->name, std::string(arguments)};
}

std::vector<ToolCall> ParseJsonCalls(const Tools& tools, absl::string_view array) {
  if (!Parse(array).is_array()) return {};
  std::vector<ToolCall> calls;
  for (const absl::string_view element : RawElements(array)) {
    auto call = ParseJsonCall(tools, element);
    if (!call.has_value()) return {};
    calls.push_back(*std::move(call));
  }
  return calls;
}

std::optional<ToolCall> ParseFunctionCall(const Tools& tools, absl::string_view text) {
  constexpr absl::string_view kOpen = "<parameter=", kClose = "</parameter>";
  absl::string_view name;
  if (!ConsumeUntil(&text, ">", &name)) return std::nullopt;
  const Tool* tool = Find(tools, absl::StripAsciiWhitespace(name));
  if (tool == nullptr) return std::nullopt;
  text = absl::StripAsciiWhitespace(text);
  if (absl::StartsWith(text, "{")) return ParseNamedCall(tools, tool->name, text);
  Arguments arguments(*tool);
  while (!text.empty()) {
    absl::string_view parameter;
    if (!absl::ConsumePrefix(&text, kOpen) || !ConsumeUntil(&text, ">", &parameter)) return std::nullopt;
    // A closing tag may be missing: then the next parameter ends this one.
    const size_t close = text.find(kClose), next = text.find(kOpen);
    absl::string_view value = text.substr(0, std::min(close, next));
    text.remove_prefix(value.size() + (close < next ? kClose.size() : 0));
    text = absl::StripLeadingAsciiWhitespace(text);
    absl::ConsumePrefix(&value, "\n");  // values stand on lines of their own
    absl::ConsumeSuffix(&value, "\n");
    arguments.Add(parameter, value);
  }
  return arguments.Call();
}

std::optional<ToolCall> ParsePairsCall(const Tools& tools, absl::string_view text) {
  const absl::string_view name = absl::StripAsciiWhitespace(text.substr(0, text.find('<')));
  const Tool* tool = Find(tools, name);
  if (tool == nullptr) return std::nullopt;
  text.remove_prefix(std::min(text.find('<'), text.size()));
  Arguments arguments(*tool);
  while (!text.empty()) {
    absl::string_view between, key, value;
    if (!absl::ConsumePrefix(&text, "<arg_key>") || !ConsumeUntil(&text, "</arg_key>", &key) ||
        !ConsumeUntil(&text, "<arg_value>", &between) || !ConsumeUntil(&text, "</arg_value>", &value) ||
        !absl::StripAsciiWhitespace(between).empty()) {
      return std::nullopt;
    }
    arguments.Add(absl::StripAsciiWhitespace(key), value);
    text = absl::StripLeadingAsciiWhitespace(text);
  }
  return arguments.Call();
}

std::optional<ToolCall> ParseDeepSeekCall(const Tools& tools, absl::string_view text) {
  absl::string_view name;
  if (!ConsumeUntil(&text, kDeepSeekSeparator, &name)) return std::nullopt;
  if (absl::StripAsciiWhitespace(name) == "function") {
    if (!ConsumeUntil(&text, "\n", &name)) return std::nullopt;
    text = absl::StripAsciiWhitespace(text);
    if (!absl::ConsumePrefix(&text, "```json") || !absl::ConsumeSuffix(&text, "```")) return std::nullopt;
  }
  return ParseNamedCall(tools, name, absl::StripAsciiWhitespace(text));
}

std::vector<ToolCall> ParsePythonCalls(const Tools& tools, absl::string_view text) {
  const bool list = absl::ConsumePrefix(&text, "[");
  std::vector<ToolCall> calls;
  for (;;) {
    text = absl::StripLeadingAsciiWhitespace(text);
    if (list && !calls.empty() && text == "]") return calls;  // after a last comma
    const absl::string_view name = text.substr(0, text.find(list ? "(" : ".call("));
    const Tool* tool = Find(tools, name);
    if (tool == nullptr) return {};
    text.remove_prefix(name.size());
    absl::ConsumePrefix(&text, ".call");
    std::string arguments;
    if (!ConsumePythonArguments(&text, &arguments)) return {};
    calls.push_back({tool->name, std::move(arguments)});
    text = absl::StripLeadingAsciiWhitespace(text);
    if (!list) return text.empty() ? calls : std::vector<ToolCall>();
    if (text == "]") return calls;
    if (!absl::ConsumePrefix(&text, ",")) return {};
  }
}

}  // namespace tandem::gateway
