#include "worker/cuda/step_batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace tandem::worker::cuda {
namespace {

using testing::ElementsAre;

constexpr StepLimits kLimits{.tokens = 16, .sequences = 4, .positions = 64};

class StepBatch : public testing::Test {
 protected:
  StepBatch() : memory_(static_cast<size_t>(StepArrayBytes(kLimits))), tables_(4 * 4, -7) {
    MemoryCursor cursor(memory_.data(), static_cast<int64_t>(memory_.size()));
    arrays_ = TakeStepArrays(kLimits, &cursor);
  }

  FilledStep Fill(const std::vector<SequenceInput>& sequences, int32_t graph_size = 0) {
    return FillStep({sequences}, graph_size, kLimits, arrays_, tables_.data());
  }
  static std::vector<int32_t> First(const int32_t* values, int64_t count) { return {values, values + count}; }
  std::vector<int32_t> Table(int32_t row) const { return First(tables_.data() + row * 4, 4); }

  std::vector<uint8_t> memory_;
  std::vector<int32_t> tables_;
  StepArrays arrays_;
  const std::vector<TokenId> tokens_ = {10, 11, 12, 13, 14};
  const std::vector<BlockId> blocks_ = {5, 9, 2};
};

TEST_F(StepBatch, ThoseThatDecodeComeFirstAndRowsKeepTheStepsOrder) {
  const auto tokens = absl::MakeConstSpan(tokens_);
  const SequenceInput prefill{tokens.first(3), 15, blocks_, true};
  const SequenceInput decode{tokens.subspan(3, 1), 16, blocks_, true};
  const SequenceInput silent{tokens.subspan(4, 1), 0, absl::MakeConstSpan(blocks_).last(1), false};
  const FilledStep filled = Fill({prefill, decode, silent});

  EXPECT_EQ(filled.shape, (StepShape{.tokens = 5, .decodes = 2, .prefills = 1, .longest_prefill = 3, .rows = 2}));
  EXPECT_EQ(filled.sampled, 2);
  EXPECT_THAT(First(arrays_.tokens, 5), ElementsAre(13, 14, 10, 11, 12));
  EXPECT_THAT(First(arrays_.positions, 5), ElementsAre(16, 0, 15, 16, 17));
  EXPECT_THAT(First(arrays_.slots, 5), ElementsAre(9 * 16, 2 * 16, 5 * 16 + 15, 9 * 16, 9 * 16 + 1));
  EXPECT_THAT(First(arrays_.contexts, 2), ElementsAre(17, 1));
  EXPECT_THAT(First(arrays_.token_begin, 2), ElementsAre(2, 5));
  EXPECT_THAT(First(arrays_.start, 1), ElementsAre(15));
  EXPECT_THAT(First(arrays_.rows, 2), ElementsAre(4, 0)) << "the last token of each, in the step's order";
  EXPECT_EQ(filled.table_rows, 3);
  EXPECT_EQ(filled.table_blocks, 2);
  EXPECT_THAT(Table(0), ElementsAre(5, 9, -7, -7)) << "as many blocks as the tokens need";
  EXPECT_THAT(Table(1), ElementsAre(2, -7, -7, -7));
}

TEST_F(StepBatch, AGraphsSpareRowsBelongToNobody) {
  const auto tokens = absl::MakeConstSpan(tokens_);
  const SequenceInput silent{tokens.first(1), 3, blocks_, false};
  const SequenceInput sampled{tokens.subspan(1, 1), 20, blocks_, true};
  const FilledStep filled = Fill({silent, sampled}, 4);

  EXPECT_EQ(filled.shape, (StepShape{.tokens = 4, .decodes = 4, .rows = 4, .best = true}));
  EXPECT_EQ(filled.sampled, 1);
  EXPECT_THAT(First(arrays_.tokens, 4), ElementsAre(10, 11, -1, -1));
  EXPECT_THAT(First(arrays_.positions, 4), ElementsAre(3, 20, 0, 0));
  EXPECT_THAT(First(arrays_.slots, 4), ElementsAre(5 * 16 + 3, 9 * 16 + 4, -1, -1));
  EXPECT_THAT(First(arrays_.contexts, 4), ElementsAre(4, 21, 0, 0));
  EXPECT_THAT(First(arrays_.rows, 4), ElementsAre(1, 0, 2, 3)) << "wanted ones first, and none twice";
  EXPECT_EQ(filled.table_rows, 2);
}

TEST_F(StepBatch, TheShapeOfAGraphIsThatOfItsPaddedSteps) {
  const SequenceInput one{absl::MakeConstSpan(tokens_).first(1), 0, blocks_, true};
  const StepShape shape{.tokens = 4, .decodes = 4, .rows = 4, .best = true};
  for (size_t count = 1; count <= 4; ++count) {
    EXPECT_EQ(Fill(std::vector<SequenceInput>(count, one), 4).shape, shape);
  }
}

TEST_F(StepBatch, WhatIsWantedOfARowGoesWithTheRow) {
  const auto tokens = absl::MakeConstSpan(tokens_);
  SequenceInput prefill{tokens.first(3), 15, blocks_, true};
  SequenceInput silent{tokens.subspan(3, 1), 16, blocks_, false};
  SequenceInput decode{tokens.subspan(4, 1), 16, blocks_, true};
  prefill.wanted = {.best = 5, .row = false, .temperature = 0.5f};
  decode.wanted = {.best = 1, .row = false};
  const FilledStep picked = Fill({prefill, silent, decode});
  EXPECT_TRUE(picked.shape.best);
  EXPECT_FALSE(picked.whole_rows);
  EXPECT_EQ(picked.most_best, 5);
  EXPECT_THAT(First(arrays_.best, 2), ElementsAre(5, 1));
  EXPECT_EQ(arrays_.temperature[0], 0.5f);

  decode.wanted = {};
  EXPECT_TRUE(Fill({prefill, decode}).whole_rows);
  const FilledStep whole = Fill({silent, decode}, 4);
  EXPECT_TRUE(whole.whole_rows);
  EXPECT_EQ(whole.most_best, 0);
  EXPECT_TRUE(whole.shape.best) << "a graph is captured once";
  EXPECT_THAT(First(arrays_.best, 4), ElementsAre(0, 0, 0, 0));
}

TEST_F(StepBatch, TheArraysLieOneAfterTheOther) {
  EXPECT_EQ(reinterpret_cast<uint8_t*>(arrays_.tokens), memory_.data());
  EXPECT_LE(reinterpret_cast<uint8_t*>(arrays_.temperature + kLimits.sequences), memory_.data() + memory_.size());
  EXPECT_GT(arrays_.rows, arrays_.start);
}

}  // namespace
}  // namespace tandem::worker::cuda
