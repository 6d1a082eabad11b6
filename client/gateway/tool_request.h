// The tools that a chat may call: OpenAI's `tools` and `tool_choice`, and their elder form `functions` and
// `function_call`, which agents still send.
//
// The scheduler's chat template tells the model of them; a model whose template knows no tools is not told, and answers
// in text, which `auto` allows. To force a call would need constrained output: refused by name.
#ifndef TANDEM_CLIENT_GATEWAY_TOOL_REQUEST_H_
#define TANDEM_CLIENT_GATEWAY_TOOL_REQUEST_H_

#include <string>
#include <vector>

#include "client/gateway/json_body.h"
#include "client/gateway/tool_forms.h"
#include "tandem/v1/inference.pb.h"

namespace tandem::gateway {

inline constexpr size_t kMostTools = 128;

struct ToolRequest {
  Tools offered;          // empty: none may be called
  bool elder = false;     // asked as `functions`; a call is answered as `function_call`
  bool one_call = false;  // `parallel_tool_calls: false`, and always in the elder form

  bool any() const { return !offered.empty(); }
};

// Sets the chat's tools_json where some may be called.
ToolRequest ReadTools(Fields& fields, v1::ChatPrompt* out);

}  // namespace tandem::gateway

#endif  // TANDEM_CLIENT_GATEWAY_TOOL_REQUEST_H_
