#include "base/model/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nlohmann/json.hpp"

namespace tandem::model {
namespace {

using nlohmann::json;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

json Llama() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"hidden_size", 64},
          {"intermediate_size", 96},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 8},
          {"num_key_value_heads", 2},
          {"vocab_size", 300},
          {"max_position_embeddings", 512},
          {"rms_norm_eps", 1e-5},
          {"torch_dtype", "bfloat16"},
          {"eos_token_id", 2}};
}

json Gpt2() {
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"n_embd", 64},
          {"n_head", 4},
          {"n_layer", 2},
          {"n_positions", 128},
          {"vocab_size", 300},
          {"n_inner", nullptr}};
}

json As(json config, const char* architecture) {
  config["architectures"] = {architecture};
  return config;
}

absl::StatusOr<DecoderConfig> Parse(const json& config) { return ParseDecoderConfig(config.dump(), std::nullopt); }

json With(json config, const char* key, json value) {
  config[key] = std::move(value);
  return config;
}

std::string Refusal(const json& config) { return std::string(Parse(config).status().message()); }

TEST(ModelConfig, ClassicLlama) {
  const auto config = Parse(Llama());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->head_dim, 8);
  EXPECT_EQ(config->kv_heads, 2);
  EXPECT_EQ(config->dtype, DType::kBFloat16);
  EXPECT_EQ(config->rope.theta, 10000.0);
  EXPECT_FALSE(config->tied_embeddings);
  EXPECT_THAT(config->windows, ElementsAre(0, 0, 0));
  EXPECT_THAT(config->eos_ids, ElementsAre(2));
}

TEST(ModelConfig, ClassicAndNewerRopeSpellingsAgree) {
  const json scaling = {{"type", "linear"}, {"factor", 2.5}};
  json classic = With(With(Llama(), "rope_theta", 5e5), "rope_scaling", scaling);
  json newer = With(Llama(), "rope_parameters", {{"rope_type", "linear"}, {"factor", 2.5}, {"rope_theta", 5e5}});
  for (const json& text : {classic, newer}) {
    const auto config = Parse(text);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->rope.scaling, RopeScaling::kLinear);
    EXPECT_EQ(config->rope.factor, 2.5);
    EXPECT_EQ(config->rope.theta, 5e5);
  }
}

TEST(ModelConfig, EndIdsComeFromTheGenerationConfigFirst) {
  const auto config = ParseDecoderConfig(Llama().dump(), R"({"eos_token_id": [7, 9]})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->eos_ids, ElementsAre(7, 9));
  EXPECT_THAT(ParseDecoderConfig(Llama().dump(), "{}")->eos_ids, ElementsAre(2));
  EXPECT_THAT(ParseDecoderConfig(Llama().dump(), R"({"eos_token_id": "x"})").status().message(),
              HasSubstr("generation_config.json: eos_token_id is \"x\""));
}

TEST(ModelConfig, MistralsWindowIsAbsentNullOrANumber) {
  EXPECT_THAT(Parse(As(Llama(), "MistralForCausalLM"))->windows, Each(4096));
  EXPECT_THAT(Parse(With(As(Llama(), "MistralForCausalLM"), "sliding_window", nullptr))->windows, Each(0));
  EXPECT_THAT(Parse(With(As(Llama(), "MistralForCausalLM"), "sliding_window", 77))->windows, Each(77));
}

TEST(ModelConfig, Qwen2WindowsTheUpperLayersOnlyWhenToldTo) {
  json config = With(With(As(Llama(), "Qwen2ForCausalLM"), "sliding_window", 50), "max_window_layers", 2);
  EXPECT_THAT(Parse(config)->windows, Each(0));
  config["use_sliding_window"] = true;
  EXPECT_THAT(Parse(config)->windows, ElementsAre(0, 0, 50));
  config["layer_types"] = {"sliding_attention", "full_attention", "full_attention"};
  EXPECT_THAT(Parse(config)->windows, ElementsAre(50, 0, 0));
  config["layer_types"] = {"sliding_attention"};
  EXPECT_THAT(Refusal(config), HasSubstr("layer_types has 1 entries for 3 layers"));
  EXPECT_TRUE(Parse(As(Llama(), "Qwen2ForCausalLM"))->qkv_bias);
}

TEST(ModelConfig, Qwen3NormsItsHeads) {
  json config = As(Llama(), "Qwen3ForCausalLM");
  EXPECT_TRUE(Parse(config)->head_norm);
  EXPECT_FALSE(Parse(config)->qkv_bias);
  EXPECT_EQ(Parse(config)->head_dim, 128) << "its own default, not hidden_size / num_attention_heads";
  EXPECT_EQ(Parse(With(config, "head_dim", 32))->head_dim, 32);
  EXPECT_EQ(Parse(With(config, "num_attention_heads", 6))->head_dim, 128) << "the hidden size is not shared out";
  EXPECT_TRUE(Parse(With(config, "attention_bias", true))->attention_out_bias);
  config["sliding_window"] = 50;
  config["use_sliding_window"] = true;
  config["max_window_layers"] = 1;
  EXPECT_THAT(Parse(config)->windows, ElementsAre(0, 50, 50));
  EXPECT_FALSE(Parse(Llama())->head_norm);
}

TEST(ModelConfig, Phi3HasAWindowWhereItSaysSo) {
  const json config = As(Llama(), "Phi3ForCausalLM");
  EXPECT_EQ(Parse(config)->naming, WeightNaming::kPhi3);
  EXPECT_THAT(Parse(config)->windows, Each(0));
  EXPECT_THAT(Parse(With(config, "sliding_window", nullptr))->windows, Each(0));
  EXPECT_THAT(Parse(With(config, "sliding_window", 2047))->windows, Each(2047));
  EXPECT_THAT(Refusal(With(config, "partial_rotary_factor", 0.75)), HasSubstr("partial_rotary_factor below 1"));
  EXPECT_THAT(Refusal(With(config, "rope_scaling", {{"type", "longrope"}})), HasSubstr("\"longrope\""));
}

TEST(ModelConfig, Gpt2) {
  const auto config = Parse(Gpt2());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->intermediate, 256);
  EXPECT_TRUE(config->tied_embeddings);
  EXPECT_EQ(config->norm, Norm::kLayer);
  EXPECT_EQ(config->position, Position::kLearned);
}

TEST(ModelConfig, RefusesByName) {
  const struct {
    json config;
    const char* message;
  } cases[] = {
      {As(Llama(), "MambaForCausalLM"), "architecture \"MambaForCausalLM\" is not supported"},
      {With(Llama(), "architectures", json::array()), "architectures names 0 models"},
      {With(Llama(), "quantization_config", {{"quant_method", "awq"}}), "quantization_config is not supported"},
      {With(Llama(), "hidden_act", "relu"), "hidden_act \"relu\" is not supported"},
      {With(Llama(), "rope_scaling", {{"type", "longrope"}}), "type \"longrope\" is not supported"},
      {With(Llama(), "rope_scaling", {{"type", "dynamic"}, {"factor", 2.0}}), "type \"dynamic\" is not supported"},
      {With(Llama(), "rope_scaling", {{"type", "llama3"}, {"factor", 2.0}}), "low_freq_factor is missing"},
      {With(Llama(), "rope_scaling", "linear"), "rope_scaling is \"linear\", expected an object"},
      {With(Llama(), "rope_scaling", {{"type", "linear"}, {"factor", 0.5}}), "factor is 0.5, expected a number"},
      {With(Llama(), "rope_parameters", {{"partial_rotary_factor", 0.5}}), "partial_rotary_factor"},
      {With(Llama(), "torch_dtype", "float8"), "dtype \"float8\" is not supported"},
      {With(Llama(), "hidden_size", "64"), "hidden_size is \"64\", expected a whole number"},
      {With(Llama(), "hidden_size", 64.5), "hidden_size is 64.5"},
      {With(Llama(), "hidden_size", 0), "hidden_size is 0"},
      {With(Llama(), "hidden_size", -64), "hidden_size is -64"},
      {With(Llama(), "hidden_size", nullptr), "hidden_size is missing"},
      {With(Llama(), "hidden_size", UINT64_MAX), "hidden_size is 18446744073709551615"},
      {With(Llama(), "num_hidden_layers", 1'000'000), "num_hidden_layers is 1000000"},
      {With(Llama(), "vocab_size", 1'000'000'000), "vocab_size is 1000000000"},
      {With(Llama(), "num_key_value_heads", 3), "num_attention_heads 8 is not a multiple of num_key_value_heads 3"},
      {With(Llama(), "num_attention_heads", 7), "is not a multiple of num_attention_heads 7"},
      {With(Llama(), "head_dim", 7), "head_dim 7 is odd"},
      {With(Llama(), "rms_norm_eps", "small"), "rms_norm_eps is \"small\""},
      {With(Llama(), "tie_word_embeddings", 1), "tie_word_embeddings is 1, expected true or false"},
      {With(Llama(), "eos_token_id", -1), "eos_token_id is -1"},
      {With(Gpt2(), "activation_function", "relu"), "activation_function \"relu\" is not supported"},
      {With(Gpt2(), "scale_attn_by_inverse_layer_idx", true), "scale_attn_by_inverse_layer_idx is not supported"},
      {With(Gpt2(), "n_head", 5), "n_embd 64 is not a multiple of n_head 5"},
  };
  for (const auto& one : cases) EXPECT_THAT(Refusal(one.config), HasSubstr(one.message)) << one.config;
}

TEST(ModelConfig, MissingFieldsAreNamed) {
  for (const char* key : {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size",
                          "max_position_embeddings"}) {
    json config = Llama();
    config.erase(key);
    EXPECT_THAT(Refusal(config), HasSubstr(std::string(key) + " is missing"));
  }
}

TEST(ModelConfig, TextThatIsNoConfig) {
  const std::string whole = Llama().dump();
  const std::string deep = std::string(100000, '[');
  for (const std::string& text :
       {std::string(), std::string("null"), std::string("[1]"), std::string("{"), whole.substr(0, whole.size() / 2),
        whole + "}", deep, "{\"a\":" + deep, std::string("{\"hidden_size\": 1e999}"), std::string("\xff\xfe{}")}) {
    EXPECT_FALSE(ParseDecoderConfig(text, std::nullopt).ok()) << text.substr(0, 40);
  }
  EXPECT_THAT(ParseDecoderConfig(R"({"a": 1, "a": 2})", std::nullopt).status().message(),
              HasSubstr("the key \"a\" stands twice"));
}

}  // namespace
}  // namespace tandem::model
