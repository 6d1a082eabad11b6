#include "bench/random_llama.h"

#include <sys/stat.h>

#include <cstdio>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace tandem::bench {
namespace {

struct Entry {
  std::string name;
  std::vector<int64_t> shape;
  bool norm = false;  // weights of a norm are 1

  int64_t Elements() const {
    int64_t count = 1;
    for (int64_t size : shape) count *= size;
    return count;
  }
};

std::vector<Entry> Entries(const LlamaShape& s) {
  const int64_t head = s.hidden / s.heads, kv = head * s.kv_heads;
  std::vector<Entry> entries;
  entries.push_back({"model.embed_tokens.weight", {s.vocabulary, s.hidden}});
  for (int i = 0; i < s.layers; ++i) {
    const std::string layer = absl::StrCat("model.layers.", i, ".");
    entries.push_back({layer + "input_layernorm.weight", {s.hidden}, true});
    entries.push_back({layer + "self_attn.q_proj.weight", {s.hidden, s.hidden}});
    entries.push_back({layer + "self_attn.k_proj.weight", {kv, s.hidden}});
    entries.push_back({layer + "self_attn.v_proj.weight", {kv, s.hidden}});
    entries.push_back({layer + "self_attn.o_proj.weight", {s.hidden, s.hidden}});
    entries.push_back({layer + "post_attention_layernorm.weight", {s.hidden}, true});
    entries.push_back({layer + "mlp.gate_proj.weight", {s.intermediate, s.hidden}});
    entries.push_back({layer + "mlp.up_proj.weight", {s.intermediate, s.hidden}});
    entries.push_back({layer + "mlp.down_proj.weight", {s.hidden, s.intermediate}});
  }
  entries.push_back({"model.norm.weight", {s.hidden}, true});
  entries.push_back({"lm_head.weight", {s.vocabulary, s.hidden}});
  return entries;
}

// bf16 of magnitude 1/64 to 1/32 with a random sign and mantissa: about the spread of trained weights of this size.
uint16_t RandomWeight(uint64_t& state) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return static_cast<uint16_t>(((state & 1) << 15) | (121u << 7) | ((state >> 1) & 0x7f));
}

bool WriteText(const std::string& path, const std::string& text) {
  FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return false;
  const bool whole = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  return std::fclose(file) == 0 && whole;
}

}  // namespace

int64_t LlamaShape::Parameters() const {
  int64_t count = 0;
  for (const Entry& entry : Entries(*this)) count += entry.Elements();
  return count;
}

int64_t LlamaShape::BytesPerDecodeStep() const {
  return 2 * (Parameters() - static_cast<int64_t>(vocabulary) * hidden);
}

absl::Status WriteRandomLlama(const std::string& folder, const LlamaShape& shape) {
  mkdir(folder.c_str(), 0755);
  const nlohmann::json config = {{"architectures", {"LlamaForCausalLM"}},
                                 {"model_type", "llama"},
                                 {"hidden_size", shape.hidden},
                                 {"num_hidden_layers", shape.layers},
                                 {"num_attention_heads", shape.heads},
                                 {"num_key_value_heads", shape.kv_heads},
                                 {"intermediate_size", shape.intermediate},
                                 {"vocab_size", shape.vocabulary},
                                 {"max_position_embeddings", shape.positions},
                                 {"rms_norm_eps", 1e-5},
                                 {"rope_theta", 10000.0},
                                 {"hidden_act", "silu"},
                                 {"tie_word_embeddings", false},
                                 {"torch_dtype", "bfloat16"},
                                 {"bos_token_id", 1},
                                 {"eos_token_id", 2}};
  if (!WriteText(folder + "/config.json", config.dump(1))) {
    return absl::UnavailableError(absl::StrCat("cannot write ", folder, "/config.json"));
  }

  const std::vector<Entry> entries = Entries(shape);
  nlohmann::json header;
  int64_t offset = 0;
  for (const Entry& entry : entries) {
    const int64_t end = offset + 2 * entry.Elements();
    header[entry.name] = {{"dtype", "BF16"}, {"shape", entry.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');

  const std::string path = folder + "/model.safetensors";
  FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return absl::UnavailableError(absl::StrCat("cannot write ", path));
  const uint64_t length = text.size();
  bool whole = std::fwrite(&length, 8, 1, file) == 1 && std::fwrite(text.data(), 1, length, file) == length;
  std::vector<uint16_t> values;
  uint64_t state = 0x9E3779B97F4A7C15;
  for (const Entry& entry : entries) {
    values.resize(entry.Elements());
    for (uint16_t& value : values) value = entry.norm ? 0x3F80 : RandomWeight(state);
    whole = whole && std::fwrite(values.data(), 2, values.size(), file) == values.size();
  }
  if (std::fclose(file) != 0 || !whole) {
    return absl::UnavailableError(
        absl::StrCat("cannot write ", path, ": ", offset, " bytes were wanted; is the disk full?"));
  }
  return absl::OkStatus();
}

}  // namespace tandem::bench
