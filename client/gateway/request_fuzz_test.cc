// Feeds the fuzz entry with the committed bodies and seeded mutations of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace tandem::gateway {
namespace {

void Feed(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

std::string Mutated(std::string input, std::mt19937* random) {
  static constexpr const char* kPieces[] = {"null",
                                            "true",
                                            "-1",
                                            "1e999",
                                            "18446744073709551616",
                                            "[",
                                            "]",
                                            "{",
                                            "}",
                                            "\"",
                                            "\\",
                                            ",",
                                            ":",
                                            "\xff",
                                            "\\ud800",
                                            "%",
                                            "[[[[[[",
                                            "\"n\"",
                                            "0.5",
                                            "\"prompt\":",
                                            "\"messages\":[",
                                            "{}",
                                            "[1]",
                                            "<tool_call>",
                                            "</tool_call>",
                                            "[TOOL_CALLS]",
                                            "{\"name\":\"f\",\"arguments\":{}}",
                                            "\x01"};
  const auto place = [&] { return std::min<size_t>(1 + (*random)() % input.size(), input.size() - 1); };
  for (uint32_t times = 1 + (*random)() % 4; times > 0 && input.size() > 2; --times) {
    const size_t at = place();
    switch ((*random)() % 6) {
      case 0:
        input[at] = static_cast<char>((*random)());
        break;
      case 1:
        input.insert(at, kPieces[(*random)() % std::size(kPieces)]);
        break;
      case 2:
        input.erase(at, 1 + (*random)() % 8);
        break;
      case 3:
        input.resize(at);
        break;
      case 4:  // a stretch of it once more
        input.insert(at, input.substr(place(), (*random)() % 64));
        break;
      default: {  // a value away, so that a field's kind changes
        const size_t end = input.find_first_of(",}]", at);
        input.replace(at, end == std::string::npos ? 1 : end - at, kPieces[(*random)() % std::size(kPieces)]);
      }
    }
  }
  return input;
}

TEST(RequestFuzz, TheCorpusAndItsMutations) {
  const std::string folder = std::string(std::getenv("TANDEM_SOURCE_DIR")) + "/client/gateway/corpus/";
  const char* const kinds[] = {"completion", "chat",       "embedding",  "rerank",
                               "tokenize",   "detokenize", "tool_calls", "path"};
  std::vector<std::string> corpus;
  for (size_t kind = 0; kind < std::size(kinds); ++kind) {
    std::ifstream file(folder + kinds[kind] + ".txt");
    for (std::string line; std::getline(file, line);) corpus.push_back(static_cast<char>(kind) + line);
  }
  ASSERT_GE(corpus.size(), 25u);
  std::mt19937 random(20261123);
  for (const std::string& input : corpus) {
    Feed(input);
    for (int i = 0; i < 3000; ++i) Feed(Mutated(input, &random));
  }
}

}  // namespace
}  // namespace tandem::gateway
