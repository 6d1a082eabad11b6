// Runs every file of tests/scenarios. A file is a sequence of blocks: commands, a line of four dashes, the lines that
// they must cause, an empty line. Lines that start with # are comments. REWRITE=1 writes what was caused into the
// files: read the difference before you commit it.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/scenario_env.h"

namespace tandem::core {
namespace {

namespace fs = std::filesystem;

fs::path Folder() {
  const char* root = std::getenv("TANDEM_SOURCE_DIR");
  return fs::path(root != nullptr ? root : ".") / "tests" / "scenarios";
}

std::vector<std::string> ScenarioNames() {
  std::vector<std::string> names;
  if (!fs::exists(Folder())) return names;
  for (const auto& entry : fs::directory_iterator(Folder())) {
    if (entry.path().extension() == ".txt") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// The file as it should read, by what its commands cause now.
std::string Replay(const std::string& text) {
  ScenarioEnv env;
  std::istringstream lines(text);
  std::string line, result, caused;
  bool in_expected = false;
  while (std::getline(lines, line)) {
    if (in_expected) {
      if (!line.empty()) continue;  // the old expectation
      absl::StrAppend(&result, caused, "\n");
      caused.clear();
      in_expected = false;
    } else if (line == "----") {
      in_expected = true;
      // One "ok" is enough for a block of quiet commands.
      if (caused.empty()) caused = "ok\n";
      absl::StrAppend(&result, "----\n");
    } else {
      absl::StrAppend(&result, line, "\n");
      if (line.empty() || line[0] == '#') continue;
      const std::string output = env.Run(line);
      if (output != "ok\n") absl::StrAppend(&caused, output);
    }
  }
  return result + caused;
}

class ScenarioTest : public testing::TestWithParam<std::string> {};

TEST_P(ScenarioTest, Holds) {
  const fs::path path = Folder() / (GetParam() + ".txt");
  std::ifstream file(path);
  std::stringstream content;
  content << file.rdbuf();
  const std::string expected = content.str();
  const std::string actual = Replay(expected);
  EXPECT_FALSE(absl::StrContains(actual, "VIOLATION"));
  EXPECT_FALSE(absl::StrContains(actual, "error:"));
  if (std::getenv("REWRITE") != nullptr) {
    std::ofstream(path) << actual;
  } else {
    EXPECT_EQ(actual, expected) << "REWRITE=1 writes the new lines into " << path;
  }
}

INSTANTIATE_TEST_SUITE_P(Scenarios, ScenarioTest, testing::ValuesIn(ScenarioNames()),
                         [](const testing::TestParamInfo<std::string>& info) { return info.param; });

TEST(ScenarioFiles, AreThere) { EXPECT_GE(ScenarioNames().size(), 15u); }

}  // namespace
}  // namespace tandem::core
