// A sequence's logits keep their bits whatever shares the step with it, however its prompt is cut, and whoever computed
// its prefix: for every instruction set that this CPU can step down to, and for 1, 2 and 4 ranks.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "worker/exec/cpu_isa.h"
#include "worker/exec/model_runner_for_test.h"

namespace tandem::worker {
namespace {

using Rows = std::vector<std::vector<float>>;

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// The same tokens every time: Mersenne Twister's values are fixed by the standard, its distributions are not.
std::vector<TokenId> Tokens(uint32_t seed, int count) {
  std::mt19937 random(seed);
  std::vector<TokenId> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(static_cast<TokenId>(random() % 203));
  return tokens;
}

using Case = std::tuple<std::string, const char*, int, const char*>;

class Invariance : public testing::TestWithParam<Case> {
 protected:
  Invariance() {
    const auto& [isa, folder, ranks, dtype] = GetParam();
    model_ =
        std::make_unique<TestModel>(CpuModelOptions{.folder = SourcePath(absl::StrCat("tests/golden/models/", folder)),
                                                    .dtype = dtype,
                                                    .isa = isa,
                                                    .max_batch_tokens = 256,
                                                    .max_sequences = 16},
                                    ranks);
  }

  // Logits after the tokens, computed in one step, alone.
  std::vector<float> Alone(const std::vector<TokenId>& tokens, int32_t first_block = 0) {
    TestSequence sequence{tokens, 0, ScatteredBlocks(first_block, Blocks(tokens))};
    return model_->Run({sequence.Next(sequence.left(), true)})[0];
  }

  static int32_t Blocks(const std::vector<TokenId>& tokens) { return static_cast<int32_t>(tokens.size() + 15) / 16; }

  std::unique_ptr<TestModel> model_;
};

TEST_P(Invariance, AnyChunkingOfThePrompt) {
  const std::vector<TokenId> tokens = Tokens(1, 75);
  const std::vector<float> whole = Alone(tokens);
  for (const int chunk : {1, 2, 5, 15, 16, 17, 31, 64}) {
    TestSequence sequence{tokens, 0, ScatteredBlocks(chunk, Blocks(tokens))};
    Rows rows;
    while (sequence.left() > 0) {
      const int32_t count = std::min(chunk, sequence.left());
      rows = model_->Run({sequence.Next(count, count == sequence.left())});
    }
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_TRUE(SameBits(rows[0], whole)) << "chunks of " << chunk;
  }
}

TEST_P(Invariance, InAFullRaggedBatch) {
  constexpr int kLengths[] = {75, 1, 33, 16, 2, 48, 7, 17};
  Rows alone;
  for (int i = 0; i < 8; ++i) alone.push_back(Alone(Tokens(static_cast<uint32_t>(i) + 1, kLengths[i])));

  std::vector<TestSequence> sequences;
  int32_t next_block = 0;
  for (int i = 0; i < 8; ++i) {
    const std::vector<TokenId> tokens = Tokens(static_cast<uint32_t>(i) + 1, kLengths[i]);
    sequences.push_back({tokens, 0, ScatteredBlocks(next_block, Blocks(tokens), 1)});
    next_block += Blocks(tokens);
  }
  std::vector<SequenceInput> step;
  for (TestSequence& sequence : sequences) step.push_back(sequence.Next(sequence.left(), true));
  const Rows together = model_->Run(step);
  ASSERT_EQ(together.size(), alone.size());
  for (size_t i = 0; i < alone.size(); ++i) EXPECT_TRUE(SameBits(together[i], alone[i])) << "sequence " << i;
}

TEST_P(Invariance, DecodingBesideAPrefill) {
  const std::vector<TokenId> tokens = Tokens(3, 40);
  const std::vector<float> alone = Alone(tokens);

  TestSequence decoding{tokens, 0, ScatteredBlocks(0, 3, 1)};
  model_->Run({decoding.Next(39, false)});
  TestSequence prefill{Tokens(9, 120), 0, ScatteredBlocks(10, 8, 1)};
  const SequenceInput beside = prefill.Next(100, false);
  const Rows rows = model_->Run({beside, decoding.Next(1, true)});
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_TRUE(SameBits(rows[0], alone));
}

TEST_P(Invariance, WithThePrefixOfAnotherSequence) {
  const std::vector<TokenId> prefix = Tokens(4, 32);
  std::vector<TokenId> first = prefix, second = prefix;
  for (const TokenId token : Tokens(5, 20)) first.push_back(token);
  for (const TokenId token : Tokens(6, 9)) second.push_back(token);
  const std::vector<float> alone = Alone(second);

  TestSequence owner{first, 0, {40, 41, 42, 43}};
  model_->Run({owner.Next(owner.left(), true)});
  TestSequence guest{second, 32, {40, 41, 60}};
  const Rows rows = model_->Run({guest.Next(guest.left(), true)});
  EXPECT_TRUE(SameBits(rows[0], alone));
}

TEST_P(Invariance, InBlocksThatHeldSomethingElse) {
  const std::vector<TokenId> tokens = Tokens(7, 21);
  const std::vector<float> fresh = Alone(tokens, 50);
  Alone(Tokens(8, 90), 0);
  EXPECT_TRUE(SameBits(Alone(tokens, 0), fresh));
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const std::string& isa : AvailableIsas()) {
    for (const int ranks : {1, 2, 4}) {
      cases.emplace_back(isa, "llama-llama3-rope", ranks, "bfloat16");
      cases.emplace_back(isa, "mistral-window", ranks, "float32");
      cases.emplace_back(isa, "gpt2", ranks, "bfloat16");
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(, Invariance, testing::ValuesIn(Cases()), [](const auto& info) {
  std::string name =
      absl::StrCat(std::get<0>(info.param), "_", std::get<1>(info.param), "_tp", std::get<2>(info.param));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// What numerics_id promises: equal ids, equal bits.
TEST(Numerics, EqualIdsGiveEqualBitsAcrossInstructionSetsAndThreads) {
  for (const char* folder : {"llama-llama3-rope", "mistral-window", "gpt2"}) {
    for (const char* dtype : {"float32", "bfloat16"}) {
      std::map<std::string, std::vector<float>> by_id;
      for (const std::string& isa : AvailableIsas()) {
        for (const int threads : {1, 3}) {
          TestModel model({.folder = SourcePath(absl::StrCat("tests/golden/models/", folder)),
                           .dtype = dtype,
                           .isa = isa,
                           .threads = threads},
                          1);
          TestSequence sequence{Tokens(2, 60), 0, ScatteredBlocks(1, 4)};
          const std::vector<float> logits = model.Run({sequence.Next(60, true)})[0];
          const auto [entry, first] = by_id.emplace(model.rank(0).numerics_id(), logits);
          EXPECT_TRUE(first || SameBits(entry->second, logits)) << entry->first << " with " << isa << ", " << threads;
        }
      }
    }
  }
}

}  // namespace
}  // namespace tandem::worker
