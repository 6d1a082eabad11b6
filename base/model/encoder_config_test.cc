#include "base/model/encoder_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/model/temporary_folder_for_test.h"
#include "nlohmann/json.hpp"

namespace tandem::model {
namespace {

using ::testing::HasSubstr;

constexpr char kModules[] = R"([{"path": "", "type": "sentence_transformers.models.Transformer"},
  {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
  {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}])";

// The folder of a small BERT, to be changed in one place.
class EncoderConfigTest : public testing::Test {
 protected:
  EncoderConfigTest() {
    config_ = {{"architectures", {"BertModel"}}, {"hidden_size", 48},       {"num_hidden_layers", 2},
               {"num_attention_heads", 4},       {"intermediate_size", 72}, {"vocab_size", 211},
               {"max_position_embeddings", 64},  {"type_vocab_size", 2},    {"hidden_act", "gelu"}};
  }

  absl::StatusOr<EncoderConfig> Read(const std::string& task = "embed") {
    folder_.Write("config.json", config_.dump());
    return ReadEncoderConfig(folder_.path(), task);
  }
  std::string Refusal(const std::string& task = "embed") {
    const auto read = Read(task);
    return read.ok() ? "it was read" : std::string(read.status().message());
  }
  void WriteModules(const std::string& pooling) {
    folder_.Write("modules.json", kModules);
    std::filesystem::create_directories(std::filesystem::path(folder_.path()) / "1_Pooling");
    folder_.Write("1_Pooling/config.json", pooling);
  }

  TemporaryFolder folder_;
  nlohmann::json config_;
};

TEST_F(EncoderConfigTest, APlainFolderIsPooledByTheMean) {
  const auto config = Read();
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->pooling, Pooling::kMean);
  EXPECT_FALSE(config->normalize);
  EXPECT_EQ(config->max_tokens, 64);
  EXPECT_EQ(config->vector_size(), 48);
  EXPECT_EQ(config->head_dim, 12);
}

TEST_F(EncoderConfigTest, WhatSentenceTransformersWroteCounts) {
  WriteModules(
      R"({"word_embedding_dimension": 48, "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false})");
  folder_.Write("sentence_bert_config.json", R"({"max_seq_length": 32, "do_lower_case": false})");
  const auto config = Read();
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->pooling, Pooling::kFirst);
  EXPECT_TRUE(config->normalize);
  EXPECT_EQ(config->max_tokens, 32);
}

TEST_F(EncoderConfigTest, RobertaBeginsBehindItsPadding) {
  config_["architectures"] = {"RobertaModel"};
  config_["pad_token_id"] = 1;
  const auto config = Read();
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->first_position, 2);
  EXPECT_EQ(config->max_tokens, 62);
}

TEST_F(EncoderConfigTest, ACrossEncoderHasOneLabelAndAKnownFunction) {
  config_["architectures"] = {"BertForSequenceClassification"};
  config_["id2label"] = {{"0", "LABEL_0"}};
  ASSERT_TRUE(Read("rerank").ok()) << Read("rerank").status();
  EXPECT_TRUE(Read("rerank")->sigmoid);
  config_["sbert_ce_default_activation_function"] = "torch.nn.modules.linear.Identity";
  EXPECT_FALSE(Read("rerank")->sigmoid);
  config_["sentence_transformers"] = {{"activation_fn", "torch.nn.modules.activation.Tanh"}};
  EXPECT_THAT(Refusal("rerank"), HasSubstr("activation torch.nn.modules.activation.Tanh is not supported"));
  config_["id2label"] = {{"0", "a"}, {"1", "b"}, {"2", "c"}};
  EXPECT_THAT(Refusal("rerank"), HasSubstr("has 3 labels; a reranker has one"));
  EXPECT_THAT(Refusal("embed"), HasSubstr("its task is rerank, not embed"));
}

TEST_F(EncoderConfigTest, WhatWouldChangeAVectorIsRefusedByName) {
  const auto with = [&](const char* key, const nlohmann::json& value) {
    const nlohmann::json before = config_;
    config_[key] = value;
    const std::string refusal = Refusal();
    config_ = before;
    return refusal;
  };
  EXPECT_THAT(with("hidden_act", "silu"), HasSubstr("hidden_act \"silu\" is not supported"));
  EXPECT_THAT(with("position_embedding_type", "relative_key"), HasSubstr("position_embedding_type \"relative_key\""));
  EXPECT_THAT(with("is_decoder", true), HasSubstr("is_decoder"));
  EXPECT_THAT(with("num_attention_heads", 5), HasSubstr("48 is not a multiple of num_attention_heads 5"));
  EXPECT_THAT(with("architectures", {"T5EncoderModel"}), HasSubstr("T5EncoderModel is no encoder that is served"));
  EXPECT_THAT(with("hidden_size", 1 << 20), HasSubstr("hidden_size"));
  EXPECT_THAT(with("num_hidden_layers", 0), HasSubstr("num_hidden_layers"));
}

TEST_F(EncoderConfigTest, ChainsThatAreNotComputedAreRefused) {
  WriteModules(R"({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true})");
  EXPECT_THAT(Refusal(), HasSubstr("asks for 2 known kinds of pooling"));
  WriteModules(R"({"pooling_mode_weightedmean_tokens": true})");
  EXPECT_THAT(Refusal(), HasSubstr("pooling_mode_weightedmean_tokens is not supported"));
  WriteModules(R"({"pooling_mode_mean_tokens": true, "word_embedding_dimension": 47})");
  EXPECT_THAT(Refusal(), HasSubstr("word_embedding_dimension is 47, config.json has 48"));
  WriteModules(R"({"pooling_mode_mean_tokens": true})");
  EXPECT_EQ(Refusal(), "it was read");
  folder_.Write("config_sentence_transformers.json", R"({"default_prompt_name": "query"})");
  EXPECT_THAT(Refusal(), HasSubstr("default_prompt_name \"query\" is not supported"));
  folder_.Write("config_sentence_transformers.json", R"({"default_prompt_name": null})");
  folder_.Write("modules.json", R"([{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"},
    {"path": "2_Dense", "type": "x.Dense"}])");
  EXPECT_THAT(Refusal(), HasSubstr("the chain \"Transformer Pooling Dense\" is not supported"));
  folder_.Write("modules.json", R"([{"path": "../x", "type": "x.Transformer"}])");
  EXPECT_THAT(Refusal(), HasSubstr("it must lie in the folder itself"));
  folder_.Write("modules.json", R"([{"path": "", "type": "x.Transformer"}, {"path": "../x", "type": "x.Pooling"}])");
  EXPECT_THAT(Refusal(), HasSubstr("the pooling has no folder of its own"));
  folder_.Write("modules.json", "{}");
  EXPECT_THAT(Refusal(), HasSubstr("modules.json is no list of modules"));
}

}  // namespace
}  // namespace tandem::model
