// Feeds the fuzz entry with the committed folders and seeded mutations of them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "base/fuzz/mutation.h"
#include "base/model/json_fields.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace tandem::model {
namespace {

void Feed(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

const fuzz::Mutation kMutation = {.pieces = {"-1",
                                             "null",
                                             "1e999",
                                             "18446744073709551615",
                                             "{",
                                             "}",
                                             "[",
                                             "]",
                                             "\"",
                                             ",",
                                             ":",
                                             "\\u0000",
                                             "9223372036854775808",
                                             "0",
                                             "\xff",
                                             "true",
                                             "\n==> config.json\n",
                                             "1",
                                             "7",
                                             "1024",
                                             "16777216",
                                             "1e-9",
                                             "3"}};

TEST(EncoderFolderFuzz, TheCorpusAndItsMutations) {
  const char* root = std::getenv("TANDEM_SOURCE_DIR");
  const auto folder = std::filesystem::path(root != nullptr ? root : ".") / "base/model/corpus";
  std::mt19937 random(20240801);
  int folders = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const absl::StatusOr<std::string> text = ReadSmallFile(entry.path().string(), 1 << 20);
    ASSERT_TRUE(text.ok()) << text.status();
    Feed(*text);
    for (int i = 0; i < 500; ++i) Feed(fuzz::Mutated(*text, kMutation, &random));
    ++folders;
  }
  EXPECT_GE(folders, 6);
}

}  // namespace
}  // namespace tandem::model
