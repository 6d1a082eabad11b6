// Runs the fuzz target over the golden templates, a committed corpus, and damaged copies of both, from a fixed seed.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace tandem::chat {
namespace {

constexpr int kRounds = 3000;  // about two seconds

const char kVariables[] =
    R"({"messages": [{"role": "user", "content": "Grüße <|im_end|>"}, {"role": "assistant", "content": "b"}], "n": 3, "f": 1.5, )"
    R"("tools": [{"function": {"name": "f", "arguments": {"x": [1, null, true]}}}], "bos_token": "<s>", "eos_token": "</s>"})";

std::vector<std::string> Corpus() {
  const std::filesystem::path golden = std::string(std::getenv("TANDEM_SOURCE_DIR")) + "/tests/golden/chat";
  std::vector<std::string> inputs;
  std::ifstream file(golden / "cases.json");
  const auto goldens = nlohmann::json::parse(file);
  for (const auto& [name, entry] : goldens["templates"].items()) {
    inputs.push_back(entry["source"].get<std::string>());
  }
  for (const auto& entry : std::filesystem::directory_iterator(golden / "corpus")) {
    std::ifstream in(entry.path(), std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    inputs.push_back(text.str());
  }
  return inputs;
}

void RunTarget(const std::string& source) {
  const std::string input = std::string(kVariables) + "\n" + source;
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

TEST(ChatTemplateFuzz, TheCorpusAndDamagedCopiesOfIt) {
  const std::vector<std::string> corpus = Corpus();
  ASSERT_GT(corpus.size(), 20u);
  std::mt19937 random(7);
  for (const std::string& input : corpus) RunTarget(input);
  const auto below = [&](size_t n) { return n == 0 ? 0 : random() % n; };
  for (int round = 0; round < kRounds; ++round) {
    std::string input = corpus[below(corpus.size())];
    for (size_t edits = 1 + below(3); edits > 0; --edits) {
      const std::string& other = corpus[below(corpus.size())];
      switch (below(5)) {
        case 0:
          if (!input.empty()) input[below(input.size())] = static_cast<char>(random());
          break;
        case 1:
          input.erase(below(input.size()), 1 + below(12));
          break;
        case 2:
          input.insert(below(input.size()), other.substr(below(other.size()), 1 + below(40)));
          break;
        case 3: {
          static const char* const kPieces[] = {"{{ ",
                                                " }}",
                                                "{% if x %}",
                                                "{% endif %}",
                                                "| tojson",
                                                "[::-1]",
                                                " * 9999999",
                                                "~",
                                                "(",
                                                ")",
                                                "-",
                                                "' '",
                                                " is not",
                                                "| map('upper')",
                                                "\\",
                                                "%",
                                                "namespace(a=messages)",
                                                "9223372036854775807",
                                                "{%- for i in range(99) %}"};
          input.insert(below(input.size()), kPieces[below(std::size(kPieces))]);
          break;
        }
        default:
          input.resize(below(input.size()));
      }
    }
    RunTarget(input);
  }
}

}  // namespace
}  // namespace tandem::chat
