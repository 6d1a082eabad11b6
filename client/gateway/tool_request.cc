#include "client/gateway/tool_request.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/gateway/raw_json.h"

namespace tandem::gateway {
namespace {

using nlohmann::json;

constexpr size_t kLongestName = 256;
constexpr char kForcing[] =
    "a call cannot be forced, since output is not constrained; send \"auto\", or \"none\", and say in a message that "
    "the "
    "tool must be used";

// "auto", and nothing, leave it to the model. False: no tool may be called.
bool MayCall(Fields& fields, const char* name) {
  const json* choice = fields.Find(name);
  if (choice == nullptr || *choice == "auto") return true;
  if (*choice == "none") return false;
  if (*choice == "required" || choice->is_object()) {
    fields.Fail(UnsupportedParameter(name, kForcing));
  } else {
    fields.Fail(name, "must be \"auto\" or \"none\"");
  }
  return false;
}

// Of {"name": ..., "description": ..., "parameters": {...}}.
Tool ReadFunction(const json& function, const std::string& path, Fields& errors) {
  if (!function.is_object()) {
    errors.Fail(InvalidParameter(path, absl::StrCat(path, " must be an object, and is ", KindOf(function))));
    return {};
  }
  Fields fields(function, path + ".");
  std::string name = fields.RequiredString("name");
  if (name.size() > kLongestName) {
    fields.Fail("name", absl::StrCat("has ", name.size(), " bytes; allowed are ", kLongestName));
  }
  const json* parameters = fields.Object("parameters");
  if (fields.error()) errors.Fail(*fields.error());
  return MakeTool(std::move(name), parameters);
}

Tool ReadTool(const json& tool, const std::string& path, Fields& errors) {
  if (!tool.is_object()) {
    errors.Fail(InvalidParameter(path, absl::StrCat(path, " must be an object, and is ", KindOf(tool))));
    return {};
  }
  Fields fields(tool, path + ".");
  const std::string type = fields.String("type").value_or("function");
  if (type != "function") fields.Fail(UnsupportedParameter(path + ".type", "tools are functions; send \"function\""));
  const json* function = fields.Object("function");
  if (function == nullptr && !fields.error()) fields.Fail("function", "is missing");
  if (fields.error()) {
    errors.Fail(*fields.error());
    return {};
  }
  return ReadFunction(*function, path + ".function", errors);
}

// `functions` in the form of `tools`, each description as it was written.
std::string AsTools(absl::string_view functions) {
  std::string out = "[";
  for (const absl::string_view function : RawElements(functions)) {
    absl::StrAppend(&out, out.size() > 1 ? ", " : "", "{\"type\": \"function\", \"function\": ", function, "}");
  }
  return out + "]";
}

}  // namespace

ToolRequest ReadTools(Fields& fields, v1::ChatPrompt* out) {
  ToolRequest request;
  request.elder = !fields.Has("tools") && fields.Has("functions");
  const char* const name = request.elder ? "functions" : "tools";
  const json* tools = fields.Find(name);
  const bool may_call = MayCall(fields, request.elder ? "function_call" : "tool_choice");
  request.one_call = request.elder || !fields.Boolean("parallel_tool_calls").value_or(true);
  if (tools == nullptr || fields.error()) return request;
  if (!tools->is_array()) {
    fields.Fail(name, absl::StrCat("must be an array, and is ", KindOf(*tools)));
    return request;
  }
  if (tools->size() > kMostTools) {
    fields.Fail(name, absl::StrCat("has ", tools->size(), " entries; allowed are ", kMostTools));
    return request;
  }
  Tools offered;
  for (size_t i = 0; i < tools->size(); ++i) {
    const std::string path = absl::StrCat(name, "[", i, "]");
    offered.push_back(request.elder ? ReadFunction((*tools)[i], path, fields) : ReadTool((*tools)[i], path, fields));
  }
  if (!may_call || offered.empty() || fields.error()) return request;
  request.offered = std::move(offered);
  const std::string written = fields.Written(name);
  out->set_tools_json(request.elder ? AsTools(written) : written);
  return request;
}

}  // namespace tandem::gateway
