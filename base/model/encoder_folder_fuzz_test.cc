// Feeds the fuzz entry with the committed folders and seeded mutations of them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "base/model/json_fields.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace tandem::model {
namespace {

void Feed(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

std::string Mutated(std::string input, std::mt19937* random) {
  static constexpr const char* kPieces[] = {"-1",
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
                                            "3"};
  const auto place = [&] { return (*random)() % input.size(); };
  for (uint32_t times = 1 + (*random)() % 3; times > 0 && !input.empty(); --times) {
    switch ((*random)() % 6) {
      case 0:
        input[place()] = static_cast<char>((*random)());
        break;
      case 1:
        input.insert(place(), kPieces[(*random)() % std::size(kPieces)]);
        break;
      case 2:
        input.erase(place(), 1 + (*random)() % 8);
        break;
      case 3:
        input.resize(place());
        break;
      case 4: {  // another number
        const size_t digit = input.find_first_of("0123456789", place());
        if (digit == std::string::npos) break;
        const size_t end = std::min(input.find_first_not_of("0123456789", digit), input.size());
        input.replace(digit, end - digit, kPieces[(*random)() % std::size(kPieces)]);
        break;
      }
      default:
        input.insert(place(), input.substr(place(), (*random)() % 64));
    }
  }
  return input;
}

TEST(EncoderFolderFuzz, TheCorpusAndItsMutations) {
  const char* root = std::getenv("TANDEM_SOURCE_DIR");
  const auto folder = std::filesystem::path(root != nullptr ? root : ".") / "base/model/corpus";
  std::mt19937 random(20240801);
  int folders = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const absl::StatusOr<std::string> text = ReadSmallFile(entry.path().string(), 1 << 20);
    ASSERT_TRUE(text.ok()) << text.status();
    Feed(*text);
    for (int i = 0; i < 500; ++i) Feed(Mutated(*text, &random));
    ++folders;
  }
  EXPECT_GE(folders, 6);
}

}  // namespace
}  // namespace tandem::model
