// The parts of a tokenizer.json by themselves, against the same parts of the reference.
#include <gtest/gtest.h>

#include "absl/strings/escaping.h"
#include "scheduler/tokenizer/golden_data.h"
#include "scheduler/tokenizer/normalizer.h"
#include "scheduler/tokenizer/pre_tokenizer.h"

namespace tandem::tokenizer {
namespace {

TEST(Components, NormalizersEqualTheReference) {
  const Json golden = ReadGoldenJson(GoldenDir() / "components.json");
  ASSERT_FALSE(golden["normalizers"].empty());
  for (const Json& part : golden["normalizers"]) {
    const auto normalizer = Normalizer::Parse(part["config"]);
    ASSERT_TRUE(normalizer.ok()) << normalizer.status();
    for (const auto& [text, expected] : part["cases"].get<std::vector<std::pair<std::string, std::string>>>()) {
      const auto got = normalizer->Apply(text);
      ASSERT_TRUE(got.ok()) << got.status();
      EXPECT_EQ(*got, expected) << part["config"] << " " << absl::CHexEscape(text);
    }
  }
}

TEST(Components, PreTokenizersEqualTheReference) {
  using Words = std::vector<std::string>;
  const Json golden = ReadGoldenJson(GoldenDir() / "components.json");
  ASSERT_FALSE(golden["pre_tokenizers"].empty());
  for (const Json& part : golden["pre_tokenizers"]) {
    const auto pre_tokenizer = PreTokenizer::Parse(part["config"]);
    ASSERT_TRUE(pre_tokenizer.ok()) << pre_tokenizer.status() << part["config"];
    for (const auto& [text, expected] : part["cases"].get<std::vector<std::pair<std::string, Words>>>()) {
      Words words;
      const absl::Status status = pre_tokenizer->Run(text, /*starts_prompt=*/true, [&](absl::string_view word) {
        words.emplace_back(word);
        return absl::OkStatus();
      });
      ASSERT_TRUE(status.ok()) << status;
      EXPECT_EQ(words, expected) << part["config"] << " " << absl::CHexEscape(text);
    }
  }
}

TEST(Components, AnErrorOfTheSinkEndsTheCutting) {
  const PreTokenizer pre_tokenizer = PreTokenizer::Gpt2(false);
  int words = 0;
  const absl::Status status = pre_tokenizer.Run("one two three", true, [&](absl::string_view) {
    return ++words == 2 ? absl::OutOfRangeError("enough") : absl::OkStatus();
  });
  EXPECT_EQ(status, absl::OutOfRangeError("enough"));
  EXPECT_EQ(words, 2);
}

// The same letters under a million accents in the wrong order: an insertion sort would need hours.
TEST(Components, AMillionAccentsAreNormalizedInTime) {
  std::string text = "a";
  for (int i = 0; i < 500'000; ++i) text += "\xCC\x81\xCC\xA3";  // acute (above) before dot (below)
  const std::string normal = Normalize(NormalForm::kNfc, text);
  EXPECT_EQ(normal.substr(0, 5), "\xE1\xBA\xA1\xCC\xA3");  // the dot joins its letter, the other dots follow
  EXPECT_EQ(Normalize(NormalForm::kNfc, normal), normal);
}

TEST(Regex, MatchesDoNotOverlapAndAreNeverEmpty) {
  const auto regex = Regex::Compile("a*");
  ASSERT_TRUE(regex.ok());
  const auto matches = regex->FindAll("baac");
  ASSERT_TRUE(matches.ok());
  ASSERT_EQ(matches->size(), 1u);
  EXPECT_EQ((*matches)[0].begin, 1u);
  EXPECT_EQ((*matches)[0].end, 3u);
}

// What the two engines read differently, or what is none of a tokenizer's business.
TEST(Regex, RefusesByName) {
  for (const char* pattern :
       {"[a&&b]",     "[a[bc]]",       "^a",    "a$",        "a{1,3}+", "\\h",  "\\bword",     "(?x) a",
        "(?<name>a)", "a(?i)b",        "[\\W]", "(*ACCEPT)", "\\",      "[abc", "\\x{110000}", "\\x{12",
        "\\u12",      "\\p{Nonsense}", "(a",    "a\xFF",     "[]a]"}) {
    const auto regex = Regex::Compile(pattern);
    ASSERT_FALSE(regex.ok()) << pattern;
    EXPECT_EQ(regex.status().code(), absl::StatusCode::kInvalidArgument) << pattern;
    EXPECT_NE(regex.status().message().find("regex: "), absl::string_view::npos) << regex.status();
  }
}

// A pattern with exponential backtracking must end in an answer, not in a stuck thread.
TEST(Regex, GivesUpOnARunawayPattern) {
  const auto regex = Regex::Compile("(?:a+)+[b-d]");
  ASSERT_TRUE(regex.ok());
  const auto matches = regex->FindAll(std::string(40, 'a') + "x");
  ASSERT_FALSE(matches.ok());
  EXPECT_EQ(matches.status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace tandem::tokenizer
