// For tests that compare with jinja2: reads one JSON object per line, {"template": ..., "variables": {...}}, and
// answers each with one line, {"prompt": ...}, {"refused": ...} (at load) or {"failed": ...} (while rendering).
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "scheduler/chat_template/json_value.h"
#include "scheduler/chat_template/template.h"

namespace {

nlohmann::ordered_json Answer(const nlohmann::ordered_json& request) {
  using namespace tandem::chat;
  const auto parsed = Template::Parse(request["template"].get<std::string>());
  if (!parsed.ok()) return {{"refused", std::string(parsed.status().message())}};
  const auto variables = ParseJsonValue(request["variables"].dump(), "variables");
  if (!variables.ok()) return {{"failed", std::string(variables.status().message())}};
  const auto prompt = parsed->Render(variables->dict(), Limits(), absl::Now());
  if (!prompt.ok()) return {{"failed", std::string(prompt.status().message())}};
  return {{"prompt", prompt->bytes()}};
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << Answer(nlohmann::ordered_json::parse(line)).dump() << std::endl;
  }
}
