// Model folders that cannot be served, each with one line that says why; and what Encode refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "scheduler/tokenizer/golden_data.h"
#include "scheduler/tokenizer/incremental_detokenizer.h"
#include "scheduler/tokenizer/tokenizer.h"

namespace tandem::tokenizer {
namespace {

using testing::HasSubstr;
using testing::Not;

// Byte-level, no merges but two: small enough to break by hand.
nlohmann::json SmallJson() {
  return nlohmann::json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [{"id": 5, "content": "<|end|>", "single_word": false, "lstrip": false, "rstrip": false,
                      "normalized": false, "special": true}],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    "post_processor": null,
    "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
              "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
              "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ġab": 4}, "merges": ["a b", ["Ġ", "ab"]]}})");
}

class LoadTest : public testing::Test {
 protected:
  LoadTest() : folder_(MakeFolder("load")) {}

  void Write(const std::string& name, const std::string& bytes) { WriteFile(folder_ / name, bytes); }
  void Write(const nlohmann::json& tokenizer) { Write("tokenizer.json", tokenizer.dump()); }

  std::shared_ptr<const Tokenizer> Load() {
    auto loaded = Tokenizer::Load(folder_.string());
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return loaded.ok() ? *loaded : nullptr;
  }

  // The message of a refusal: one line, with the place.
  std::string Refusal() {
    const auto loaded = Tokenizer::Load(folder_.string());
    if (loaded.ok()) return "it was loaded";
    const std::string message(loaded.status().message());
    EXPECT_THAT(message, Not(HasSubstr("\n")));
    EXPECT_THAT(message, HasSubstr(folder_.string()));
    return message;
  }

  // The refusal of SmallJson() with the value at `pointer` replaced.
  std::string Refusal(const std::string& pointer, const nlohmann::json& value) {
    nlohmann::json tokenizer = SmallJson();
    tokenizer[nlohmann::json::json_pointer(pointer)] = value;
    Write(tokenizer);
    return Refusal();
  }

  const std::filesystem::path folder_;
};

TEST_F(LoadTest, TheSmallOneWorks) {
  Write(SmallJson());
  const auto tokenizer = Load();
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(*tokenizer->Encode("ab ab<|end|>b"), (std::vector<int32_t>{2, 4, 5, 1}));
  EXPECT_EQ(tokenizer->vocab_size(), 6);
  EXPECT_TRUE(tokenizer->IsSpecial(5));
  EXPECT_FALSE(tokenizer->IsSpecial(6));
  EXPECT_EQ(tokenizer->TokenBytes(4), " ab");
  EXPECT_EQ(tokenizer->TokenBytes(-1), "");
  EXPECT_EQ(tokenizer->TokenBytes(6), "");
  EXPECT_EQ(tokenizer->Decode({2, 4, 5, 99, -7, 1}), "ab abb");
  EXPECT_EQ(tokenizer->Decode({2, 5}, false), "ab<|end|>");
}

TEST_F(LoadTest, NoFolderNoFiles) {
  EXPECT_THAT(Tokenizer::Load("/nonexistent/model").status().ToString(), HasSubstr("no such folder"));
  EXPECT_THAT(Refusal(), HasSubstr("expected tokenizer.json, tokenizer.model, or vocab.json with merges.txt"));
  Write("vocab.json", "{}");
  EXPECT_THAT(Refusal(), HasSubstr("expected tokenizer.json")) << "vocab.json alone is none";
}

TEST_F(LoadTest, CutInHalfAtEveryByte) {
  const std::string whole = SmallJson().dump();
  for (size_t length = 0; length < whole.size(); ++length) {
    Write("tokenizer.json", whole.substr(0, length));
    EXPECT_THAT(Refusal(), HasSubstr(absl::StrCat("of ", length, " (the file ends too early)")));
  }
}

TEST_F(LoadTest, WrongTypesNameThePlace) {
  EXPECT_THAT(Refusal("/model", 3), HasSubstr("model is number, it must be an object"));
  EXPECT_THAT(Refusal("/model/vocab", nlohmann::json::array()), HasSubstr("model.vocab is array"));
  EXPECT_THAT(Refusal("/model/vocab/a", "zero"), HasSubstr("model.vocab[\"a\"] is string"));
  EXPECT_THAT(Refusal("/model/vocab/a", -1), HasSubstr("id -1 of piece \"a\" is outside"));
  EXPECT_THAT(Refusal("/model/vocab/a", 18446744073709551615u), HasSubstr("must be a token id"));
  EXPECT_THAT(Refusal("/model/vocab/a", 2000000000), HasSubstr("is outside [0, "));
  EXPECT_THAT(Refusal("/model/merges", 7), HasSubstr("model.merges is number"));
  EXPECT_THAT(Refusal("/model/merges/0", "a b c"), HasSubstr("model.merges[0] is no pair"));
  EXPECT_THAT(Refusal("/model/merges/1", nlohmann::json::array({"a"})), HasSubstr("model.merges[1] is no pair"));
  EXPECT_THAT(Refusal("/model/byte_fallback", 1), HasSubstr("model.byte_fallback is number"));
  EXPECT_THAT(Refusal("/added_tokens", "x"), HasSubstr("added_tokens must be an array"));
  EXPECT_THAT(Refusal("/added_tokens/0/id", 1.5), HasSubstr("added_tokens[0].id is number"));
  EXPECT_THAT(Refusal("/added_tokens/0/content", ""), HasSubstr("added_tokens[0].content is empty"));
  EXPECT_THAT(Refusal("/pre_tokenizer", "ByteLevel"), HasSubstr("pre_tokenizer is string, it must be an object"));
  Write("tokenizer.json", std::string(1'000'000, '['));
  EXPECT_THAT(Refusal(), HasSubstr("the file ends too early"));
  Write("tokenizer.json", "[]");
  EXPECT_THAT(Refusal(), HasSubstr("the file is array, it must be an object"));
}

TEST_F(LoadTest, IdsAndPiecesThatContradictEachOther) {
  EXPECT_THAT(Refusal("/model/vocab/b", 0), HasSubstr("id 0 stands for two pieces, \"a\" and \"b\""));
  EXPECT_THAT(Refusal("/model/merges/0", "a c"), HasSubstr("merge 0 names \"c\""));
  EXPECT_THAT(Refusal("/model/merges/0", "b a"), HasSubstr("merge 0 names \"ba\""));
  EXPECT_THAT(Refusal("/added_tokens/0/id", 2), HasSubstr("but model.vocab has \"ab\" there"));
  EXPECT_THAT(Refusal("/added_tokens/0/content", "ab"), HasSubstr("but model.vocab has 2 there"));
  EXPECT_THAT(Refusal("/added_tokens/1", SmallJson()["added_tokens"][0]), HasSubstr("is there twice"));
  EXPECT_THAT(Refusal("/model/unk_token", "<unk>"), HasSubstr("model.unk_token \"<unk>\" is not in model.vocab"));
}

TEST_F(LoadTest, UnknownPartsAreRefusedByName) {
  const auto part = [](const char* type) { return nlohmann::json{{"type", type}}; };
  EXPECT_THAT(Refusal("/model/type", "WordLevel"), HasSubstr("model: type \"WordLevel\" is not supported"));
  EXPECT_THAT(Refusal("/normalizer", part("Nmt")), HasSubstr("normalizer \"Nmt\" is not supported"));
  EXPECT_THAT(Refusal("/pre_tokenizer", part("UnicodeScripts")), HasSubstr("pre-tokenizer \"UnicodeScripts\""));
  EXPECT_THAT(Refusal("/post_processor", part("PairwiseProcessing")),
              HasSubstr("post-processor \"PairwiseProcessing\""));
  EXPECT_THAT(Refusal("/decoder", part("CTC")), HasSubstr("decoder \"CTC\" is not supported"));
  EXPECT_THAT(Refusal("/decoder", nullptr), HasSubstr("decoder is missing"));
  EXPECT_THAT(Refusal("/model/dropout", 0.1), HasSubstr("model.dropout is not supported"));
  EXPECT_THAT(Refusal("/model/continuing_subword_prefix", "##"),
              HasSubstr("model.continuing_subword_prefix is not supported"));
  EXPECT_THAT(Refusal("/version", "2.0"), HasSubstr("version \"2.0\" is not supported"));
  EXPECT_THAT(Refusal("/model/cache_magic", 1), HasSubstr("model has the unknown member \"cache_magic\""));
  EXPECT_THAT(Refusal("/extra", 1), HasSubstr("the file has the unknown member \"extra\""));
  EXPECT_THAT(Refusal("/pre_tokenizer/spice", 1), HasSubstr("pre_tokenizer has the unknown member \"spice\""));
}

TEST_F(LoadTest, PartsThatCannotStream) {
  const auto decoder = [](const char* text) { return nlohmann::json::parse(text); };
  EXPECT_THAT(Refusal("/decoder", decoder(R"({"type":"Sequence","decoders":[{"type":"Fuse"},
                  {"type":"Strip","content":" ","start":0,"stop":1}]})")),
              HasSubstr("decoder.decoders[1]: decoder \"Strip\" with \"stop\" behind Fuse"));
  EXPECT_THAT(Refusal("/decoder", decoder(R"({"type":"Replace","pattern":{"Regex":"a"},"content":""})")),
              HasSubstr("with a regular expression is not supported"));
  EXPECT_THAT(Refusal("/decoder", decoder(R"({"type":"Sequence","decoders":[{"type":"ByteFallback"},
                  {"type":"Replace","pattern":{"String":"a"},"content":"b"}]})")),
              HasSubstr("behind Fuse, ByteFallback or ByteLevel"));
}

TEST_F(LoadTest, APatternOfTheOtherEngine) {
  const auto split = [](const char* pattern) {
    return nlohmann::json{
        {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
  };
  EXPECT_THAT(Refusal("/pre_tokenizer", split("[a-z&&[^b]]")), HasSubstr("pre_tokenizer.pattern: regex: && at byte 4"));
  EXPECT_THAT(Refusal("/pre_tokenizer", split("(a")), HasSubstr("pre_tokenizer.pattern: regex: missing closing"));
  nlohmann::json deep = split("a");
  for (int i = 0; i < 100; ++i) deep = {{"type", "Sequence"}, {"pretokenizers", {deep}}};
  EXPECT_THAT(Refusal("/pre_tokenizer", deep), HasSubstr("is nested too deeply"));
}

TEST_F(LoadTest, BeginAndEndTokensByName) {
  Write(SmallJson());
  Write("tokenizer_config.json", R"({"eos_token": {"content": "<|end|>"}, "bos_token": null, "chat_template": "x"})");
  EXPECT_EQ(Load()->eos_id(), 5);
  EXPECT_EQ(Load()->bos_id(), std::nullopt);
  Write("tokenizer_config.json", R"({"eos_token": 5})");
  EXPECT_THAT(Refusal(), HasSubstr("tokenizer_config.json: eos_token is neither a string nor an added token"));
}

TEST_F(LoadTest, Gpt2Files) {
  Write("vocab.json", R"({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3})");
  Write("merges.txt", "#version: 0.2\na b\n");
  EXPECT_EQ(*Load()->Encode("ab<|endoftext|>a"), (std::vector<int32_t>{2, 3, 0}));
  EXPECT_EQ(Load()->eos_id(), 3);
  Write("merges.txt", "#version: 0.2\na b\r\nab  a\n");
  EXPECT_THAT(Refusal(), HasSubstr("merges.txt: line 3 is no pair of pieces"));
  Write("merges.txt", "a x\n");
  EXPECT_THAT(Refusal(), HasSubstr("merges.txt: merge 0 names \"x\""));
  Write("merges.txt", "a \xFF\n");
  EXPECT_THAT(Refusal(), HasSubstr("merges.txt: no valid UTF-8 at byte 2"));
  Write("merges.txt", "");
  Write("added_tokens.json", "{}");
  EXPECT_THAT(Refusal(), HasSubstr("added_tokens.json: not supported"));
}

// A hand-made ModelProto: tag, length, bytes.
std::string Field(int number, const std::string& bytes) {
  return absl::StrCat(std::string(1, static_cast<char>(number << 3 | 2)),
                      std::string(1, static_cast<char>(bytes.size())), bytes);
}
std::string Number(int number, int value) {
  std::string out(1, static_cast<char>((number << 3 & 0x7F) | (number > 15 ? 0x80 : 0)));
  if (number > 15) out.push_back(static_cast<char>(number >> 4));
  return out + static_cast<char>(value);
}
std::string PieceField(const std::string& text, int type) { return Field(1, Field(1, text) + Number(3, type)); }

class SentencePieceLoadTest : public LoadTest {
 protected:
  const std::string pieces_ = PieceField("<unk>", 2) + PieceField("<s>", 3) + PieceField("</s>", 3) +
                              PieceField("\xE2\x96\x81", 1) + PieceField("a", 1) +
                              PieceField(
                                  "\xE2\x96\x81"
                                  "a",
                                  1) +
                              PieceField("<x y>", 4);
  const std::string bpe_ = Field(2, Number(3, 2));
};

TEST_F(SentencePieceLoadTest, Works) {
  Write("tokenizer.model", pieces_ + bpe_);
  const auto tokenizer = Load();
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(*tokenizer->Encode("a  a a"), (std::vector<int32_t>{1, 5, 5, 5}))
      << "remove_extra_whitespaces is the default";
  EXPECT_EQ(*tokenizer->Encode("ab?a"), (std::vector<int32_t>{1, 5, 0, 4})) << "a run of unknown is one";
  EXPECT_EQ(*tokenizer->Encode("</s>a"), (std::vector<int32_t>{1, 2, 5}));
  EXPECT_EQ(tokenizer->Decode({1, 5, 5, 2}), "a a");
  Write("tokenizer_config.json", R"({"add_bos_token": false, "add_eos_token": true})");
  EXPECT_EQ(*Load()->Encode("a"), (std::vector<int32_t>{5, 2}));
}

TEST_F(SentencePieceLoadTest, RefusedByName) {
  Write("tokenizer.model", pieces_);
  EXPECT_THAT(Refusal(), HasSubstr("model type 1 (only BPE, 2) is not supported"));
  Write("tokenizer.model", bpe_);
  EXPECT_THAT(Refusal(), HasSubstr("it has no pieces"));
  Write("tokenizer.model", pieces_ + bpe_ + Field(3, Field(1, "nmt_nfkc") + Field(2, "rules")));
  EXPECT_THAT(Refusal(), HasSubstr("the normalization \"nmt_nfkc\" (only identity)"));
  Write("tokenizer.model", pieces_ + bpe_ + PieceField("z", 5));
  EXPECT_THAT(Refusal(), HasSubstr("piece 7 of type 5"));
  Write("tokenizer.model", pieces_ + bpe_ + PieceField("a", 1));
  EXPECT_THAT(Refusal(), HasSubstr("piece \"a\" has two ids, 4 and 7"));
  Write("tokenizer.model", "a tiktoken file, base64 and numbers");
  EXPECT_THAT(Refusal(), HasSubstr("no SentencePiece model"));
}

TEST_F(SentencePieceLoadTest, CutAtEveryByteItIsRefusedOrSmaller) {
  const std::string whole = bpe_ + pieces_;
  for (size_t length = 0; length < whole.size(); ++length) {
    Write("tokenizer.model", whole.substr(0, length));
    const auto loaded = Tokenizer::Load(folder_.string());
    // Between two pieces the file is a whole message; nothing marks its end.
    if (loaded.ok()) {
      EXPECT_LT((*loaded)->vocab_size(), 7);
    }
  }
}

TEST_F(LoadTest, InvalidUtf8IsNamedByItsOffsetOnly) {
  Write(SmallJson());
  const auto ids = Load()->Encode("secret\xFFsecret");
  EXPECT_EQ(ids.status(), absl::InvalidArgumentError("the text is no valid UTF-8 at byte 6"));
}

TEST_F(LoadTest, TheTokenLimitIsExact) {
  nlohmann::json json = SmallJson();
  json["post_processor"] = nlohmann::json::parse(R"({"type": "TemplateProcessing",
      "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<|end|>", "type_id": 0}}],
      "pair": [], "special_tokens": {"<|end|>": {"id": "<|end|>", "ids": [5], "tokens": ["<|end|>"]}}})");
  Write(json);
  const auto tokenizer = Load();
  EncodeOptions options;
  options.max_tokens = 4;
  EXPECT_TRUE(tokenizer->Encode("b b", options).ok());
  EXPECT_EQ(tokenizer->Encode("b bb", options).status(), absl::OutOfRangeError("more than 4 tokens"));
  EXPECT_EQ(tokenizer->Encode("b b<|end|>", options).status(), absl::OutOfRangeError("more than 4 tokens"));
  options.max_tokens = 0;
  EXPECT_EQ(tokenizer->Encode("", options).status(), absl::OutOfRangeError("more than 0 tokens"));
}

// The limit is far above what a loaded machine needs (0.1 s) and far below what a quadratic merge would (days).
TEST_F(LoadTest, TenMegabytesOfOneLetterAreRefusedAtOnce) {
  const auto loaded = Tokenizer::Load((GoldenDir() / "spm_style").string());
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EncodeOptions options;
  options.max_tokens = 4096;
  for (const char* unit : {"a", " ", "\n", "\xF0\x9F\x98\x80", "<", "ab"}) {
    std::string text;
    while (text.size() < (10 << 20)) text += unit;
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ((*loaded)->Encode(text, options).status().code(), absl::StatusCode::kOutOfRange) << unit;
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20)) << unit;
  }
}

TEST_F(LoadTest, AMegabyteOfOneLetterIsEncoded) {
  const auto loaded = Tokenizer::Load((GoldenDir() / "qwen2_style").string());
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  for (const char* unit : {"a", " ", "er"}) {
    std::string text;
    while (text.size() < (1 << 20)) text += unit;
    const auto ids = (*loaded)->Encode(text);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ((*loaded)->Decode(*ids), text);
  }
}

// "Hello" + "▁world": the second half of a text begins with a space, a text by itself does not.
TEST(Detokenizer, ALeadingSpaceBelongsToAContinuedText) {
  const auto loaded = Tokenizer::Load((GoldenDir() / "spm_style").string());
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const Tokenizer& tokenizer = **loaded;
  const std::vector<int32_t> ids = *tokenizer.Encode("the request");
  for (bool continues : {false, true}) {
    DetokenizeOptions options;
    options.continues_text = continues;
    IncrementalDetokenizer detokenizer(tokenizer, options);
    std::string text;
    for (int32_t id : ids) detokenizer.Append(id, &text);
    detokenizer.Flush(&text);
    EXPECT_EQ(text, continues ? " the request" : "the request");
  }
  EXPECT_TRUE(tokenizer.HasText(ids));
  EXPECT_FALSE(tokenizer.HasText({ids.data(), 1})) << "<s> alone";
}

}  // namespace
}  // namespace tandem::tokenizer
