// Feeds the fuzz entry with the committed bodies and seeded mutations of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "base/fuzz/mutation.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace tandem::gateway {
namespace {

void Feed(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

const fuzz::Mutation kMutation = {.pieces = {"null",
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
                                             "<function=f>",
                                             "<parameter=n>",
                                             "</function>",
                                             "<arg_key>",
                                             "f(n=",
                                             "'",
                                             "(",
                                             ")",
                                             "{\"name\":\"f\",\"arguments\":{}}",
                                             "\x01"},
                                  .first = 1};

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
    for (int i = 0; i < 3000; ++i) Feed(fuzz::Mutated(input, kMutation, &random));
  }
}

}  // namespace
}  // namespace tandem::gateway
