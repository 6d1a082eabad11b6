// Feeds the fuzz entry with small files and seeded mutations of them.
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "base/fuzz/mutation.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace tandem::security {
namespace {

const fuzz::Mutation kMutation = {.pieces = {"sha256:", "client", "+", "admin+", "\n", "#", " ", "\t", "\r", "\x00",
                                             "*", "=", "aaaaaaaaaaaaaaaa", "\xff"}};

TEST(TokenFileFuzz, FilesAndTheirMutations) {
  const std::string corpus[] = {"# who\nops admin aaaaaaaaaaaaaaaaaaaaaaaa\n",
                                "a client+viewer bbbbbbbbbbbbbbbb\nb worker "
                                "sha256:b10253764c8b233fb37542e23401c7b450e5a6f9751f3b5a014f6f67e8bc999d\n",
                                "*.workers.rack7=worker",
                                "spiffe://rack/*=client+admin",
                                "cccccccccccccccccccc\n",
                                ""};
  std::mt19937 random(7);
  for (const std::string& file : corpus) {
    for (int i = 0; i < 4000; ++i) {
      const std::string input = i == 0 ? file : fuzz::Mutated(file, kMutation, &random);
      LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
    }
  }
}

}  // namespace
}  // namespace tandem::security
