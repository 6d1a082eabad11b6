// Where the tests find the committed goldens, and the real vocabularies that are not committed.
#ifndef TANDEM_SCHEDULER_TOKENIZER_GOLDEN_DATA_H_
#define TANDEM_SCHEDULER_TOKENIZER_GOLDEN_DATA_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

namespace tandem::tokenizer {

inline std::filesystem::path SourceDir() {
  const char* dir = std::getenv("TANDEM_SOURCE_DIR");
  return dir == nullptr ? std::filesystem::current_path() : std::filesystem::path(dir);
}

inline std::filesystem::path GoldenDir() { return SourceDir() / "tests" / "golden" / "tokenizer"; }
inline std::filesystem::path SharedDir() { return SourceDir().parent_path() / "shared" / "tokenizers"; }

inline std::string ReadGolden(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  return std::string(std::istreambuf_iterator<char>(in), {});
}

inline nlohmann::json ReadGoldenJson(const std::filesystem::path& path) {
  return nlohmann::json::parse(ReadGolden(path));
}

// A new, empty folder for one test.
inline std::filesystem::path MakeFolder(const std::string& name) {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / ("tandem_tokenizer_" + name);
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

inline void WriteFile(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

}  // namespace tandem::tokenizer

#endif  // TANDEM_SCHEDULER_TOKENIZER_GOLDEN_DATA_H_
