// Feeds the fuzz entry with the committed topology files and seeded mutations of them.

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "base/fuzz/mutation.h"
#include "placement/files/files_for_test.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace tandem::placement {
namespace {

void Feed(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

const fuzz::Mutation kMutation = {
    .pieces = {"-1",       "GPU0",  "GPU64", "\t",     "\n",   "NV0",   "NV999",
               "NODENODE", "X",     "0-3,9", "N/A",    "NIC0", "<pci ", "/>",
               "<!--",     "&amp;", "\"",    "</cpu>", "0x",   "1e999", "18446744073709551615",
               "hosts:",   "- {",   "[",     "*a",     "&a "},
    .first = 1};

TEST(TopologyFilesFuzz, TheCorpusAndItsMutations) {
  std::vector<std::string> corpus;
  const char* const kinds[] = {"smi", "xml", "cluster"};
  for (int kind = 0; kind < 3; ++kind) {
    for (const auto& path : FilesIn(SourceFolder() / "placement/files/corpus" / kinds[kind])) {
      for (const int chip : {0, 4}) corpus.push_back(static_cast<char>(kind + chip) + Contents(path));
    }
  }
  ASSERT_GE(corpus.size(), 20u);
  std::mt19937 random(20261122);
  for (const std::string& input : corpus) {
    Feed(input);
    for (int i = 0; i < 3000; ++i) Feed(fuzz::Mutated(input, kMutation, &random));
  }
}

}  // namespace
}  // namespace tandem::placement
