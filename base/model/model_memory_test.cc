#include "base/model/model_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::model {
namespace {

using testing::HasSubstr;

DecoderConfig Llama2_7B() {
  DecoderConfig config;
  config.layers = 32;
  config.hidden = 4096;
  config.heads = config.kv_heads = 32;
  config.head_dim = 128;
  config.intermediate = 11008;
  config.vocab = 32000;
  config.max_positions = 4096;
  config.windows.assign(32, 0);
  return config;
}

TEST(ModelMemory, Llama7BByHand) {
  const auto memory = MemoryOfRank(Llama2_7B(), {.ranks = 1});
  ASSERT_TRUE(memory.ok()) << memory.status();
  // 6,738,415,616 parameters, of which 65 norms of 4096 are kept in float32.
  EXPECT_EQ(memory->weight_bytes, 6'738'415'616 * 2 + 65 * 4096 * 2);
  EXPECT_EQ(memory->kv_bytes_per_token, 512 << 10);
  EXPECT_EQ(MemoryOfRank(Llama2_7B(), {.ranks = 4})->kv_bytes_per_token, 128 << 10);
}

TEST(ModelMemory, KvStopsShrinkingWhereRanksOutnumberTheKvHeads) {
  DecoderConfig config = Llama2_7B();
  config.kv_heads = 8;
  EXPECT_EQ(MemoryOfRank(config, {.ranks = 8})->kv_bytes_per_token, 16 << 10);
  EXPECT_EQ(MemoryOfRank(config, {.ranks = 16})->kv_bytes_per_token, 16 << 10);
}

TEST(ModelMemory, TheVocabularyIsPaddedToPanelsOnEveryRank) {
  DecoderConfig config = Llama2_7B();
  config.vocab = 50257;
  EXPECT_EQ(ShapeOfRank(config, 1)->padded_vocab, 50304);
  EXPECT_EQ(ShapeOfRank(config, 4)->padded_vocab, 50432);
  EXPECT_EQ(ShapeOfRank(config, 4)->vocab, 12608);
}

TEST(ModelMemory, ADegreeThatDoesNotDivideIsRefusedByName) {
  DecoderConfig config = Llama2_7B();
  EXPECT_THAT(ShapeOfRank(config, 3).status().message(), HasSubstr("num_attention_heads 32 cannot be split over 3"));
  EXPECT_THAT(ShapeOfRank(config, 0).status().message(), HasSubstr("tensor_parallel 0"));
  config.kv_heads = 6;
  config.heads = 24;
  EXPECT_THAT(ShapeOfRank(config, 4).status().message(), HasSubstr("num_key_value_heads 6 cannot be split over 4"));
  config = Llama2_7B();
  config.intermediate = 11009;
  EXPECT_THAT(ShapeOfRank(config, 2).status().message(), HasSubstr("intermediate_size 11009"));
}

TEST(ModelMemory, StoredTypes) {
  EXPECT_EQ(*ChooseStoredDType("auto", DType::kBFloat16), DType::kBFloat16);
  EXPECT_EQ(*ChooseStoredDType("auto", DType::kFloat16), DType::kFloat32);
  EXPECT_EQ(*ChooseStoredDType("bfloat16", DType::kFloat32), DType::kBFloat16);
  EXPECT_THAT(ChooseStoredDType("float16", DType::kFloat16).status().message(), HasSubstr("\"float16\""));
}

TEST(DTypes, BFloat16RoundsToNearestEvenAndKeepsNan) {
  EXPECT_EQ(BFloat16FromFloat(1.0f), 0x3f80);
  EXPECT_EQ(BFloat16FromFloat(std::bit_cast<float>(0x3f808000u)), 0x3f80);  // A tie goes to the even one.
  EXPECT_EQ(BFloat16FromFloat(std::bit_cast<float>(0x3f818000u)), 0x3f82);
  EXPECT_EQ(BFloat16FromFloat(std::bit_cast<float>(0x3f808001u)), 0x3f81);
  EXPECT_EQ(BFloat16FromFloat(std::bit_cast<float>(0x7f800001u)) & 0x7fc0, 0x7fc0);
}

TEST(DTypes, EveryFloat16IsExact) {
  EXPECT_EQ(FloatFromFloat16(0x3c00), 1.0f);
  EXPECT_EQ(FloatFromFloat16(0xc000), -2.0f);
  EXPECT_EQ(FloatFromFloat16(0x0001), 0x1p-24f);
  EXPECT_EQ(FloatFromFloat16(0x03ff), 1023 * 0x1p-24f);
  EXPECT_EQ(FloatFromFloat16(0x7bff), 65504.0f);
  EXPECT_EQ(std::bit_cast<uint32_t>(FloatFromFloat16(0x8000)), 0x80000000u);
  EXPECT_EQ(FloatFromFloat16(0x7c00), std::bit_cast<float>(0x7f800000u));
}

}  // namespace
}  // namespace tandem::model
