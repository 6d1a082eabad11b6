// UTF-8, the byte-level alphabet, stop strings: what happens to text on its way out.
#include <gtest/gtest.h>

#include <random>

#include "scheduler/tokenizer/byte_level.h"
#include "scheduler/tokenizer/stop_matcher.h"
#include "scheduler/tokenizer/utf8.h"

namespace tandem::tokenizer {
namespace {

std::string Repaired(absl::string_view bytes) {
  std::string out;
  AppendRepaired(bytes, &out);
  return out;
}

constexpr char kBad[] = "\xEF\xBF\xBD";

TEST(Utf8, NamesTheFirstInvalidByte) {
  EXPECT_EQ(FindInvalidUtf8(""), std::nullopt);
  EXPECT_EQ(FindInvalidUtf8("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"), std::nullopt);
  EXPECT_EQ(FindInvalidUtf8("ab\xFF"), 2u);
  EXPECT_EQ(FindInvalidUtf8("a\xC3"), 1u) << "cut off";
  EXPECT_EQ(FindInvalidUtf8("\xC0\x80"), 0u) << "overlong";
  EXPECT_EQ(FindInvalidUtf8("\xE0\x80\x80"), 0u) << "overlong";
  EXPECT_EQ(FindInvalidUtf8("x\xED\xA0\x80"), 1u) << "surrogate";
  EXPECT_EQ(FindInvalidUtf8("\xF4\x90\x80\x80"), 0u) << "beyond U+10FFFF";
  EXPECT_EQ(FindInvalidUtf8("\x80"), 0u) << "a tail without a head";
}

TEST(Utf8, EachMaximalSubpartIsOneReplacement) {
  // The example of the Unicode standard, table 3-8.
  EXPECT_EQ(Repaired("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"),
            std::string("a") + kBad + kBad + kBad + "b" + kBad + "c" + kBad + kBad + "d");
  EXPECT_EQ(Repaired("\xE2\x82"), kBad);
}

TEST(Utf8, HoldsBackHalfACharacter) {
  std::string pending = "a\xF0\x9F";
  std::string out;
  MoveStable(&pending, &out);
  EXPECT_EQ(out, "a");
  EXPECT_EQ(pending, "\xF0\x9F");
  pending += "\x98\x80!";
  MoveStable(&pending, &out);
  EXPECT_EQ(out, "a\xF0\x9F\x98\x80!");
  EXPECT_TRUE(pending.empty());
}

TEST(Utf8, ReleasesHalfACharacterOnceItCannotBecomeWhole) {
  std::string pending =
      "\xF0\x9F"
      "a";
  std::string out;
  MoveStable(&pending, &out);
  EXPECT_EQ(out, std::string(kBad) + "a");
}

TEST(ByteLevel, EveryByteComesBack) {
  std::string bytes;
  for (int b = 0; b < 256; ++b) bytes.push_back(static_cast<char>(b));
  EXPECT_EQ(FromByteLevel(ToByteLevel(bytes)), bytes);
  EXPECT_EQ(ToByteLevel(" a\n"),
            "\xC4\xA0"
            "a\xC4\x8A");
  EXPECT_EQ(FromByteLevel("a b"), std::nullopt) << "a space is spelled U+0120";
}

struct Stopped {
  std::string text;
  int64_t token = -1;
  size_t string = 0;
  bool operator==(const Stopped& o) const { return text == o.text && token == o.token && string == o.string; }
};

std::ostream& operator<<(std::ostream& out, const Stopped& s) {
  return out << "\"" << s.text << "\" token " << s.token << " string " << s.string;
}

Stopped Stream(const std::vector<std::string>& stops, const std::vector<std::string>& tokens) {
  StopMatcher matcher(stops);
  Stopped result;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (const auto& stop = matcher.Append(static_cast<int64_t>(i), tokens[i], &result.text)) {
      result.token = stop->token_index;
      result.string = stop->string_index;
    }
  }
  matcher.Flush(&result.text);
  return result;
}

TEST(StopMatcher, CutsBeforeTheStopString) {
  EXPECT_EQ(Stream({"END"}, {"a", "bEN", "Dc", "d"}), (Stopped{"ab", 2, 0}));
}

TEST(StopMatcher, HoldsBackWhatMayBeABeginning) {
  StopMatcher matcher({"\n\nUser:"});
  std::string out;
  matcher.Append(0, "hi\n\nUse", &out);
  EXPECT_EQ(out, "hi");
  matcher.Append(1, "ful", &out);
  EXPECT_EQ(out, "hi\n\nUseful");
}

TEST(StopMatcher, GivesTheHeldTextAtTheEnd) { EXPECT_EQ(Stream({"END"}, {"a", "EN"}), (Stopped{"aEN", -1, 0})); }

TEST(StopMatcher, TheFirstCompleteOneCounts) {
  EXPECT_EQ(Stream({"abcd", "bc"}, {"xabcd"}), (Stopped{"xa", 0, 1}));
  EXPECT_EQ(Stream({"c", "abc"}, {"xabcd"}), (Stopped{"x", 0, 1})) << "the longest of those that end together";
}

TEST(StopMatcher, OverlapsItself) {
  EXPECT_EQ(Stream({"aab"}, {"a", "a", "a", "b"}), (Stopped{"a", 3, 0}));
  EXPECT_EQ(Stream({"abab"}, {"ab", "aab", "ab"}), (Stopped{"aba", 2, 0}));
}

TEST(StopMatcher, NothingFollowsAStop) { EXPECT_EQ(Stream({"."}, {"a.b", "c.", "d"}), (Stopped{"a", 0, 0})); }

TEST(StopMatcher, AnEmptyStopStringStopsNothing) {
  EXPECT_EQ(Stream({"", "b"}, {"a", "b"}), (Stopped{"a", 1, 1}));
  EXPECT_EQ(Stream({}, {"a", "b"}), (Stopped{"ab", -1, 0}));
}

// Against the plain definition, over a small alphabet where everything overlaps.
TEST(StopMatcher, DoesNotDependOnTheCuts) {
  std::mt19937 random(11);
  const auto word = [&](size_t length) {
    std::string s;
    while (s.size() < length) s.push_back("ab"[random() % 2]);
    return s;
  };
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> stops;
    for (size_t n = 1 + random() % 3; n > 0; --n) stops.push_back(word(1 + random() % 5));
    const std::string text = word(random() % 16);
    size_t end = 0, begin = text.size();
    for (size_t e = 1; e <= text.size() && end == 0; ++e) {
      for (const std::string& stop : stops) {
        if (stop.size() > e || text.compare(e - stop.size(), stop.size(), stop) != 0) continue;
        begin = end == 0 ? e - stop.size() : std::min(begin, e - stop.size());
        end = e;
      }
    }
    std::vector<std::string> tokens;
    int64_t token_of_end = -1;
    for (size_t at = 0; at < text.size();) {
      const size_t n = 1 + random() % 4;
      tokens.push_back(text.substr(at, n));
      at += n;
      if (end > 0 && token_of_end < 0 && at >= end) token_of_end = static_cast<int64_t>(tokens.size()) - 1;
    }
    const Stopped got = Stream(stops, tokens);
    EXPECT_EQ(got.text, text.substr(0, end == 0 ? text.size() : begin));
    EXPECT_EQ(got.token, token_of_end);
  }
}

}  // namespace
}  // namespace tandem::tokenizer
