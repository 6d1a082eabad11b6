#include "worker/cuda/clip_batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace tandem::worker::cuda {
namespace {

using testing::ElementsAre;

model::ClipConfig SmallClip() {
  model::ClipConfig config;
  config.text.positions = 20;
  config.side = 4;
  config.patch = 2;
  config.end_token = 9;
  return config;
}

class ClipBatchTest : public testing::Test {
 protected:
  ClipArrays Take(const TextLimits& limits, int64_t image_bytes) {
    const auto take = [&](MemoryCursor cursor) {
      ClipArrays arrays = TakeClipArrays(limits, image_bytes, &cursor);
      return std::pair(arrays, cursor.taken());
    };
    memory_.emplace_back(static_cast<size_t>(take(MemoryCursor::Counting()).second));
    return take(MemoryCursor(memory_.back().data(), static_cast<int64_t>(memory_.back().size()))).first;
  }
  static std::vector<int32_t> First(const int32_t* values, int count) { return {values, values + count}; }

  const model::ClipConfig config_ = SmallClip();
  std::vector<std::vector<uint8_t>> memory_;
};

TEST_F(ClipBatchTest, EachTowerGetsItsOwnAndRemembersTheirPlaces) {
  const TextLimits texts = ClipTextLimits(config_, 64, 8), images = ClipImageLimits(config_, 64, 8);
  EXPECT_EQ(images.texts, 8);
  EXPECT_EQ(images.tokens, 8 * 5);
  EXPECT_EQ(ClipImageLimits(config_, 24, 8).texts, 4) << "of 5 tokens each";

  const std::vector<TokenId> longer = {1, 2, 9, 4, 9}, endless = {3, 4}, none(5, 0);
  std::vector<uint8_t> red(48, 200), blue(48, 7);
  const std::vector<SequenceInput> step = {{.tokens = none, .sample = true, .image = red},
                                           {.tokens = longer, .sample = true},
                                           {.tokens = none, .sample = true, .image = blue},
                                           {.tokens = endless, .sample = true}};
  const ClipArrays of_texts = Take(texts, 0);
  const TextShape text_shape = FillClipTexts({step}, config_, texts, of_texts);
  EXPECT_EQ(text_shape.tokens, 7);
  EXPECT_EQ(text_shape.texts, 2);
  EXPECT_THAT(First(of_texts.rows.tokens, 7), ElementsAre(1, 2, 9, 4, 9, 3, 4));
  EXPECT_THAT(First(of_texts.rows.positions, 7), ElementsAre(0, 1, 2, 3, 4, 0, 1));
  EXPECT_THAT(First(of_texts.pooled, 2), ElementsAre(2, 5)) << "the first end, and where there is none the first token";
  EXPECT_THAT(First(of_texts.places, 2), ElementsAre(1, 3));

  const ClipArrays of_images = Take(images, config_.image_bytes());
  const TextShape image_shape = FillClipImages({step}, config_, images, of_images);
  EXPECT_EQ(image_shape.tokens, 10);
  EXPECT_EQ(image_shape.texts, 2);
  EXPECT_EQ(image_shape.longest, 5);
  EXPECT_THAT(First(of_images.rows.tokens, 10), ElementsAre(0, 1, 1, 1, 1, 0, 1, 1, 1, 1));
  EXPECT_THAT(First(of_images.rows.token_begin, 3), ElementsAre(0, 5, 10));
  EXPECT_THAT(First(of_images.rows.slots + 4, 2), ElementsAre(4, 16));
  EXPECT_THAT(First(of_images.pooled, 2), ElementsAre(0, 5));
  EXPECT_THAT(First(of_images.places, 2), ElementsAre(0, 2));
  EXPECT_EQ(of_images.pixels[47], 200);
  EXPECT_EQ(of_images.pixels[48], 7);
}

TEST_F(ClipBatchTest, OneCopyMovesAllButThePixels) {
  const TextLimits images = ClipImageLimits(config_, 64, 8);
  const ClipArrays arrays = Take(images, config_.image_bytes());
  EXPECT_EQ(reinterpret_cast<uint8_t*>(arrays.rows.tokens) + ClipArrayBytes(images), arrays.pixels);
  EXPECT_EQ(arrays.rows.segments, nullptr);
}

TEST_F(ClipBatchTest, AnEarlyFilesEndIsTheHighestIdThatComesFirst) {
  model::ClipConfig config = config_;
  config.end_token.reset();
  const std::vector<int32_t> ids = {4, 8, 8, 1};
  EXPECT_EQ(config.EndOf(ids), 1);
}

}  // namespace
}  // namespace tandem::worker::cuda
