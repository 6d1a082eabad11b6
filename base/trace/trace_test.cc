// Traces as they are read, and what is drawn from a seed.
#include "base/trace/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace tandem {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Trace, PoissonArrivalsHaveTheRateAndTheSpread) {
  const auto requests = DrawRequests(20'000, 50, {10, 20}, {5, 5}, 1);
  double sum = 0, squares = 0;
  for (size_t i = 1; i < requests.size(); ++i) {
    const double gap = static_cast<double>(requests[i].due_us - requests[i - 1].due_us) / 1e6;
    sum += gap;
    squares += gap * gap;
    ASSERT_GE(requests[i].input_tokens, 10u);
    ASSERT_LE(requests[i].input_tokens, 20u);
    ASSERT_EQ(requests[i].output_tokens, 5u);
  }
  const double n = static_cast<double>(requests.size() - 1), mean = sum / n;
  EXPECT_NEAR(mean, 0.02, 0.0006);
  EXPECT_NEAR(std::sqrt(squares / n - mean * mean) / mean, 1, 0.03)
      << "the coefficient of variation of a Poisson process";
  EXPECT_EQ(DrawRequests(9, 50, {1, 9}, {5, 5}, 1)[8].due_us, requests[8].due_us) << "from the seed alone";
}

TEST(Trace, TracesAreReadAsTheyStand) {
  const auto csv = ParseTrace("arrival_ms,input_tokens,output_tokens,client\n52,7,234,35\n0.5,1,0,2\n", "t.csv");
  ASSERT_TRUE(csv.ok()) << csv.status();
  EXPECT_EQ((*csv)[0].due_us, 500) << "in the order of arrival";
  EXPECT_EQ((*csv)[0].output_tokens, 1u) << "0 was aborted";
  EXPECT_EQ((*csv)[1].tenant, "client-35");
  const auto lines = ParseTrace(R"({"arrival_ms":3,"input_tokens":600,"output_tokens":5,"hash_ids":[0,14]})"
                                "\n",
                                "t.jsonl");
  ASSERT_TRUE(lines.ok()) << lines.status();
  EXPECT_THAT((*lines)[0].blocks, ElementsAre(0u, 14u));
}

TEST(Trace, ABadTraceIsNamedByLine) {
  const auto error = [](const char* text) { return std::string(ParseTrace(text, "t").status().message()); };
  EXPECT_EQ(error(""), "t:1: holds no request");
  EXPECT_EQ(error("arrival_ms,input_tokens,output_tokens\n1,2\n"), "t:2: 2 cells under 3 names");
  EXPECT_EQ(error("arrival_ms,input_tokens,output_tokens\n1,x,2\n"), "t:2: input_tokens is no number");
  EXPECT_EQ(error("arrival_ms,input_tokens\n1,2\n"),
            "t:2: needs arrival_ms, input_tokens and output_tokens, from 0 on");
  EXPECT_THAT(error("{\"arrival_ms\": 1e300}\n"), HasSubstr("t:1: needs"));
  EXPECT_THAT(error("{\n"), HasSubstr("t:1: is no JSON object"));
  EXPECT_THAT(error("\x1F\x8B"), HasSubstr("gunzip"));
}

TEST(Trace, EqualBlocksAreEqualTokens) {
  std::vector<uint32_t> vocabulary(500);
  for (uint32_t i = 0; i < 500; ++i) vocabulary[i] = i + 10;
  TraceRequest one{.input_tokens = 1500, .blocks = {0, 1, 2}}, other{.input_tokens = 1300, .blocks = {0, 1, 9}};
  const auto a = MakePrompt(one, vocabulary, 1, 0), b = MakePrompt(other, vocabulary, 1, 1);
  EXPECT_EQ(a.size(), 1500u);
  EXPECT_EQ(b.size(), 1300u);
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 1024, b.begin()));
  EXPECT_FALSE(std::equal(a.begin() + 1024, a.begin() + 1200, b.begin() + 1024));
  const auto c = MakePrompt({.input_tokens = 64}, vocabulary, 1, 0),
             d = MakePrompt({.input_tokens = 64}, vocabulary, 1, 1);
  EXPECT_NE(c, d);
}

TEST(Trace, SessionsShareWhatTheirParentHad) {
  const auto csv = ParseTrace(
      "arrival_ms,session,req,parent,shared_blocks,blocks,input_tokens,output_tokens\n"
      "5,7,0,-1,0,2,150,9\n"
      "6,8,0,-1,0,1,70,9\n"
      "9,7,1,0,1,3,200,9\n",
      "t.csv");
  ASSERT_TRUE(csv.ok()) << csv.status();
  EXPECT_EQ((*csv)[0].block_tokens, 64u);
  EXPECT_THAT((*csv)[0].blocks, ElementsAre(0u, 1u));
  EXPECT_THAT((*csv)[1].blocks, ElementsAre(2u)) << "another session shares nothing";
  EXPECT_THAT((*csv)[2].blocks, ElementsAre(0u, 3u, 4u));
  std::vector<uint32_t> vocabulary(500);
  for (uint32_t i = 0; i < 500; ++i) vocabulary[i] = i;
  const auto a = MakePrompt((*csv)[0], vocabulary, 1, 0), b = MakePrompt((*csv)[2], vocabulary, 1, 2);
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 64, b.begin()));
  EXPECT_FALSE(std::equal(a.begin() + 64, a.begin() + 128, b.begin() + 64));
}

TEST(Trace, ABadSessionIsNamedByLine) {
  const auto error = [](const char* row) {
    return std::string(
        ParseTrace(absl::StrCat("arrival_ms,session,req,parent,shared_blocks,blocks,input_tokens,output_tokens\n", row),
                   "t")
            .status()
            .message());
  };
  EXPECT_EQ(error("1,7,1,0,1,1,100,1\n"), "t:2: parent 0 of session 7 does not stand before it");
  EXPECT_EQ(error("1,7,0,-1,0,2,100,1\n"), "t:2: 2 blocks of 64 tokens in a prompt of 100");
  EXPECT_EQ(error("1,7,0,-1,1,1,100,1\n"), "t:2: shares 1 blocks; it has 1 and its parent 0");
  EXPECT_EQ(error("1,7,0,-1,-1,1,100,1\n"), "t:2: shares -1 blocks; it has 1 and its parent 0");
  EXPECT_EQ(error("1,7,zero,-1,0,1,100,1\n"), "t:2: req is no whole number");
}

TEST(Trace, MooncakesOwnNamesAreKnown) {
  const auto lines =
      ParseTrace("{\"timestamp\":27482,\"input_length\":6955,\"output_length\":52,\"hash_ids\":[46]}\n", "t");
  ASSERT_TRUE(lines.ok()) << lines.status();
  EXPECT_EQ((*lines)[0].due_us, 27'482'000);
  EXPECT_EQ((*lines)[0].input_tokens, 6955u);
  EXPECT_THAT(std::string(ParseTrace("{\"timestamp\":1}\n", "t").status().message()), HasSubstr("input_length"));
}

TEST(Trace, AFileMayBePacked) {
  const std::string path = absl::StrCat(testing::TempDir(), "/trace-", getpid(), ".csv.gz");
  const std::string text = "arrival_ms,input_tokens,output_tokens\n1,2,3\n";
  gzFile file = gzopen(path.c_str(), "wb");
  ASSERT_NE(file, nullptr);
  ASSERT_GT(gzwrite(file, text.data(), static_cast<unsigned>(text.size())), 0);
  gzclose(file);
  const auto read = ReadTraceFile(path);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->size(), 1u);
  ASSERT_EQ(truncate(path.c_str(), 30), 0);
  EXPECT_EQ(ReadTraceFile(path).status().code(), absl::StatusCode::kInvalidArgument) << "cut off";
  std::remove(path.c_str());
  EXPECT_EQ(ReadTraceFile(path).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace tandem
