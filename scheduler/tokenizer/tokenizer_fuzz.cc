// Any bytes as any of the files that make a tokenizer: the answer is a status or a tokenizer that works, never a crash.
// For libFuzzer: clang++ -fsanitize=fuzzer,address this file with the library. fuzz_test.cc calls it in every test run.
#include <glog/logging.h>

#include <cstdint>

#include "scheduler/tokenizer/tokenizer.h"
#include "scheduler/tokenizer/tokenizer_parts.h"

namespace tandem::tokenizer {
namespace {

void Use(absl::StatusOr<TokenizerParts> parts) {
  if (!parts.ok()) {
    CHECK(!parts.status().message().empty());
    return;
  }
  const auto tokenizer = Tokenizer::FromParts(*std::move(parts));
  if (!tokenizer.ok()) return;
  EncodeOptions options;
  options.max_tokens = 10'000;
  for (const char* text : {"", " ", "ab ab<|end|>b", "\xE2\x96\x81 \xF0\x9F\x98\x80 e\xCC\x81 12\n\n<s>a</s>"}) {
    for (bool parse_special : {false, true}) {
      options.parse_special = parse_special;
      const auto ids = (*tokenizer)->Encode(text, options);
      if (!ids.ok()) continue;
      for (int32_t id : *ids) CHECK(id >= 0 && id < (*tokenizer)->vocab_size()) << id;
      (*tokenizer)->Decode(*ids, parse_special);
    }
  }
}

}  // namespace
}  // namespace tandem::tokenizer

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tandem::tokenizer;
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  Use(ParseTokenizerJson(bytes));
  Use(ParseSentencePieceModel(bytes));
  Use(ParseGpt2Files(bytes, bytes));
  Use(ParseGpt2Files(R"({"a":0,"b":1,"ab":2})", bytes));
  absl::StatusOr<TokenizerParts> parts = ParseGpt2Files(R"({"a":0,"b":1,"ab":2})", "a b\n");
  CHECK(parts.ok()) << parts.status();
  if (ApplyTokenizerConfig(bytes, &*parts).ok()) Use(std::move(parts));
  return 0;
}
