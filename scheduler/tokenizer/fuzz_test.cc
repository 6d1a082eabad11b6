// Runs the fuzz target over the committed tokenizers and over damaged copies of them, from a fixed seed: broken bytes
// for the parsers, and well-formed JSON with wrong values for what stands behind them.
#include <gtest/gtest.h>

#include <random>

#include "scheduler/tokenizer/golden_data.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace tandem::tokenizer {
namespace {

using nlohmann::json;

constexpr int kRounds = 400;  // a file each way; about a second, ten under ASan

void RunTarget(const std::string& bytes) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

// The golden's parts with a vocabulary that is small enough to try thousands of times.
json Shrunk(const std::string& name) {
  json tokenizer = ReadGoldenJson(GoldenDir() / name / "tokenizer.json");
  json& model = tokenizer["model"];
  if (model["type"] == "Unigram") {
    json& pieces = model["vocab"];
    pieces.erase(pieces.begin() + std::min<ptrdiff_t>(300, static_cast<ptrdiff_t>(pieces.size())), pieces.end());
    tokenizer["added_tokens"].erase(tokenizer["added_tokens"].size() - 1);
    return tokenizer;
  }
  json vocab = json::object();
  for (const auto& [piece, id] : model["vocab"].items()) {
    if (id.get<int>() < 300) vocab[piece] = id;
  }
  json merges = json::array();
  for (const json& merge : model["merges"]) {
    const std::string joined = merge[0].get<std::string>() + merge[1].get<std::string>();
    if (vocab.contains(joined) && merges.size() < 20) merges.push_back(merge);
  }
  model["vocab"] = std::move(vocab);
  model["merges"] = std::move(merges);
  return tokenizer;
}

void CollectNodes(json& value, std::vector<json*>* nodes) {
  nodes->push_back(&value);
  // One of many ids or merges is as good as another.
  size_t taken = 0;
  if (value.is_structured()) {
    for (json& child : value) {
      if (++taken <= 12) CollectNodes(child, nodes);
    }
  }
}

std::string Damage(std::string bytes, std::mt19937* random) {
  const auto at = [&] { return bytes.empty() ? 0 : (*random)() % bytes.size(); };
  for (int edits = 1 + (*random)() % 4; edits > 0; --edits) {
    switch ((*random)() % 4) {
      case 0:
        if (!bytes.empty()) bytes[at()] = static_cast<char>((*random)());
        break;
      case 1:
        bytes.resize(at());
        break;
      case 2:
        bytes.erase(at(), 1 + (*random)() % 16);
        break;
      case 3: {
        const std::string copy = bytes.substr(at(), 1 + (*random)() % 32);
        bytes.insert(at(), copy);
        break;
      }
    }
  }
  return bytes;
}

class FuzzTest : public testing::TestWithParam<const char*> {};

TEST_P(FuzzTest, DamagedBytes) {
  std::mt19937 random(1);
  const std::string whole = Shrunk(GetParam()).dump();
  RunTarget(whole);
  for (int i = 0; i < kRounds; ++i) RunTarget(Damage(whole, &random));
}

TEST_P(FuzzTest, WrongValues) {
  std::mt19937 random(2);
  const json whole = Shrunk(GetParam());
  const json values =
      json::parse(R"([null, true, false, 0, -1, 1, 5, 2097151, 2097152, 1e300, 18446744073709551615, "", " ",
      "a", "▁", "Ġ", "<s>", "<0x41>", "ByteLevel", "Sequence", "Split", "Metaspace", "Strip", "Fuse", "always",
      "Removed",
      [], [[]], ["a", "b"], {}, {"type": "NFC"}, {"type": "ByteFallback"}, {"Regex": "(a*)*"}, {"String": "a"}])");
  for (int i = 0; i < kRounds; ++i) {
    json tokenizer = whole;
    for (int edits = 1 + random() % 3; edits > 0; --edits) {
      std::vector<json*> nodes;
      CollectNodes(tokenizer, &nodes);
      *nodes[random() % nodes.size()] = values[random() % values.size()];
    }
    RunTarget(tokenizer.dump());
  }
}

INSTANTIATE_TEST_SUITE_P(All, FuzzTest,
                         testing::Values("llama3_style", "qwen2_style", "spm_style", "metaspace_style", "clip_style",
                                         "xlmr_style", "t5_style"),
                         [](const testing::TestParamInfo<const char*>& info) { return std::string(info.param); });

TEST(FuzzSentencePiece, DamagedBytes) {
  const auto file = SharedDir() / "mistral" / "tokenizer.v1.model";
  // The real file's beginning: the control pieces, the bytes, the first of the others, and then the specs at its end.
  std::string model = std::string("\x12\x02\x18\x02", 4);
  if (std::filesystem::exists(file)) {
    model += ReadGolden(file).substr(0, 4096);
  } else {
    model += std::string(
        "\x0A\x09\x0A\x05<unk>\x18\x02\x0A\x08\x0A\x01"
        "a\x15\0\0\x80\xBF",
        21);
  }
  std::mt19937 random(3);
  for (int i = 0; i < kRounds * 4; ++i) RunTarget(Damage(model, &random));
}

}  // namespace
}  // namespace tandem::tokenizer
