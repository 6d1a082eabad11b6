// Fuzz entry for the parsers of model files. The first byte chooses the parser; errors are fine, crashes are not.
// With clang: -fsanitize=fuzzer,address and this file. Without: model_files_fuzz_test.cc feeds it.

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "base/model/model_config.h"
#include "base/model/model_memory.h"
#include "base/model/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tandem::model;
  if (size == 0) return 0;
  const absl::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 0) {
    const auto config = ParseDecoderConfig(text, text);
    if (!config.ok()) return 0;
    for (const int32_t ranks : {1, 2, 3, 8}) MemoryOfRank(*config, {.ranks = ranks}).status().IgnoreError();
    return 0;
  }
  const auto length = SafetensorsHeaderLength(text, static_cast<int64_t>(text.size()), "fuzz");
  if (!length.ok()) return 0;
  const int64_t data_bytes = static_cast<int64_t>(text.size()) - 8 - *length;
  const auto tensors = ParseSafetensorsHeader(text.substr(8, static_cast<size_t>(*length)), data_bytes, "fuzz");
  if (!tensors.ok()) return 0;
  for (const auto& [name, info] : *tensors) {
    if (info.begin < 0 || info.end < info.begin || info.end > data_bytes) __builtin_trap();
  }
  return 0;
}
