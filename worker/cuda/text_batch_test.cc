#include "worker/cuda/text_batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace tandem::worker::cuda {
namespace {

using testing::ElementsAre;

TEST(TextBatch, TextsLieOneAfterTheOtherEachInBlocksOfItsOwn) {
  constexpr TextLimits kLimits{.tokens = 64, .texts = 3, .longest = 40};
  EXPECT_EQ(kLimits.blocks(), 4 + 3);
  std::vector<uint8_t> memory(static_cast<size_t>(TextArrayBytes(kLimits)));
  MemoryCursor cursor(memory.data(), static_cast<int64_t>(memory.size()));
  const TextArrays arrays = TakeTextArrays(kLimits, &cursor);
  const auto first = [](const int32_t* values, int count) { return std::vector<int32_t>(values, values + count); };

  model::EncoderConfig config;
  config.first_position = 2;
  config.types = 2;
  const std::vector<TokenId> longer(18, 7), pair = {4, 5, 6}, one = {9};
  const std::vector<SequenceInput> texts = {{.tokens = longer, .sample = true},
                                            {.tokens = pair, .sample = true, .second_text_at = 2},
                                            {.tokens = one, .sample = true}};
  const TextShape shape = FillTexts({texts}, config, kLimits, arrays);
  EXPECT_EQ(shape.tokens, 22);
  EXPECT_EQ(shape.texts, 3);
  EXPECT_EQ(shape.longest, 18);
  EXPECT_THAT(first(arrays.token_begin, 4), ElementsAre(0, 18, 21, 22));
  EXPECT_THAT(first(arrays.start, 3), ElementsAre(0, 0, 0));
  EXPECT_THAT(first(arrays.tokens + 18, 4), ElementsAre(4, 5, 6, 9));
  EXPECT_THAT(first(arrays.positions + 17, 5), ElementsAre(19, 2, 3, 4, 2));
  EXPECT_THAT(first(arrays.segments + 18, 4), ElementsAre(0, 0, 1, 0));
  EXPECT_THAT(first(arrays.slots + 15, 7), ElementsAre(15, 16, 17, 32, 33, 34, 48));
  EXPECT_THAT(first(arrays.tables, 2), ElementsAre(0, 1));
  EXPECT_EQ(arrays.tables[kLimits.table_stride()], 2);
  EXPECT_EQ(arrays.tables[2 * kLimits.table_stride()], 3);

  config.types = 1;
  FillTexts({texts}, config, kLimits, arrays);
  EXPECT_EQ(arrays.segments[20], 0) << "a model that knows one segment";
}

}  // namespace
}  // namespace tandem::worker::cuda
