// Any bytes as a template: it is refused, or it renders or fails within its limits; never a crash, never a long wait.
//
// The first line may hold the variables as JSON. For libFuzzer: clang++ -fsanitize=fuzzer,address this file with the
// library; fuzz_test.cc calls it in every test run.
#include <glog/logging.h>

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "scheduler/chat_template/chat_template.h"
#include "scheduler/chat_template/json_value.h"
#include "scheduler/tokenizer/utf8.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tandem::chat;
  const absl::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t line = input.find('\n');
  const absl::string_view json = input.substr(0, line);
  const absl::string_view source = line == absl::string_view::npos ? input : input.substr(line + 1);
  const auto parsed = Template::Parse(source);
  if (!parsed.ok()) {
    CHECK(!parsed.status().message().empty());
    return 0;
  }
  Dict variables;
  if (const auto value = ParseJsonValue(json, "the first line"); value.ok() && value->Is(Value::Kind::kDict)) {
    variables = value->dict();
  }
  const Limits limits = {.steps = 20'000, .bytes = 4 << 20, .output_bytes = 1 << 20, .depth = 300};
  const auto prompt = parsed->Render(variables, limits, absl::UnixEpoch());
  if (!prompt.ok()) {
    CHECK(!prompt.status().message().empty());
    return 0;
  }
  CHECK_LE(prompt->size(), limits.output_bytes);
  CHECK(!tandem::tokenizer::FindInvalidUtf8(prompt->bytes())) << "a prompt that is no UTF-8";
  size_t done = 0;
  for (const auto& range : prompt->given()) {
    CHECK(range.begin >= done && range.begin < range.end && range.end <= prompt->size());
    done = range.end;
  }
  return 0;
}
