// Feeds the fuzz entry with the committed pictures and seeded mutations of them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "base/fuzz/mutation.h"
#include "base/model/json_fields.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace tandem::worker {
namespace {

void Feed(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

TEST(ImageFuzz, TheCorpusAndItsMutations) {
  const char* root = std::getenv("TANDEM_SOURCE_DIR");
  const auto folder = std::filesystem::path(root != nullptr ? root : ".") / "tests/golden/images";
  std::mt19937 random(20240731);
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string extension = entry.path().extension().string();
    if (extension != ".png" && extension != ".jpg") continue;
    const auto file = model::ReadSmallFile(entry.path().string(), 1 << 20);
    ASSERT_TRUE(file.ok()) << file.status();
    Feed(*file);
    for (int i = 0; i < 400; ++i) Feed(fuzz::Mutated(*file, {}, &random));
    ++files;
  }
  EXPECT_GE(files, 36);
}

}  // namespace
}  // namespace tandem::worker
