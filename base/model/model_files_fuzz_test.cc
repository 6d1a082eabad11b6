// Feeds the fuzz entry with the committed model files and seeded mutations of them.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "base/fuzz/mutation.h"
#include "base/model/json_fields.h"
#include "base/model/temporary_folder_for_test.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace tandem::model {
namespace {

void Feed(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

// Configs as they are, and weight files with their header and no more data than the fuzzer needs to look at.
std::vector<std::string> Corpus() {
  const char* root = std::getenv("TANDEM_SOURCE_DIR");
  std::vector<std::string> corpus;
  const auto models = std::filesystem::path(root != nullptr ? root : ".") / "tests/golden/models";
  for (const auto& entry : std::filesystem::recursive_directory_iterator(models)) {
    const std::string name = entry.path().filename().string();
    const bool config = name == "config.json";
    if (!config && name != "golden.safetensors") continue;
    const absl::StatusOr<std::string> text = ReadSmallFile(entry.path().string(), 1 << 20);
    if (text.ok()) corpus.push_back((config ? '\0' : '\1') + *text);
  }
  corpus.push_back('\1' + SafetensorsFile(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "12345678"));
  return corpus;
}

// Near the front: behind a weight file's header there is only data.
const fuzz::Mutation kMutation = {.pieces = {"-1", "null", "1e999", "18446744073709551615", "{", "}", "[", "]", "\"",
                                             ",", ":", "\\u0000", "9223372036854775808", "0", "\xff", "true"},
                                  .first = 1,
                                  .places = 2048};

TEST(ModelFilesFuzz, TheCorpusAndItsMutations) {
  const std::vector<std::string> corpus = Corpus();
  ASSERT_GE(corpus.size(), 13u);
  std::mt19937 random(20240607);
  for (const std::string& input : corpus) {
    Feed(input);
    for (int i = 0; i < 3000; ++i) Feed(fuzz::Mutated(input, kMutation, &random));
  }
}

}  // namespace
}  // namespace tandem::model
