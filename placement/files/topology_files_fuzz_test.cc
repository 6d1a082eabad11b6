// Feeds the fuzz entry with the committed topology files and seeded mutations of them.

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "placement/files/files_for_test.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace tandem::placement {
namespace {

void Feed(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

std::string Mutated(std::string input, std::mt19937* random) {
  static constexpr const char* kPieces[] = {
      "-1",       "GPU0",  "GPU64", "\t",     "\n",   "NV0",   "NV999",
      "NODENODE", "X",     "0-3,9", "N/A",    "NIC0", "<pci ", "/>",
      "<!--",     "&amp;", "\"",    "</cpu>", "0x",   "1e999", "18446744073709551615",
      "hosts:",   "- {",   "[",     "*a",     "&a "};
  const auto place = [&] { return 1 + (*random)() % input.size(); };
  for (uint32_t times = 1 + (*random)() % 4; times > 0 && input.size() > 2; --times) {
    const size_t at = std::min(place(), input.size() - 1);
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
      case 4: {  // a line away
        const size_t end = input.find('\n', at);
        input.erase(at, end == std::string::npos ? 1 : end - at + 1);
        break;
      }
      default:
        input.insert(at, input.substr(std::min(place(), input.size() - 1), (*random)() % 64));
    }
  }
  return input;
}

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
    for (int i = 0; i < 3000; ++i) Feed(Mutated(input, &random));
  }
}

}  // namespace
}  // namespace tandem::placement
