// What config.json says about a decoder model, checked, and in one shape for every family.
//
// Families are data: a Llama, a Mistral, a Qwen2, a Qwen3, a Phi-3 and a GPT-2 differ here in the values of a few
// fields, so neither the memory formula nor the layer loop asks which one it has. A setting that would change the
// result and is not computed here is refused by its name; settings that only matter for training are not read.
#ifndef TANDEM_BASE_MODEL_MODEL_CONFIG_H_
#define TANDEM_BASE_MODEL_MODEL_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/model/dtype.h"

namespace tandem::model {

enum class Norm : uint8_t { kRms, kLayer };
enum class Activation : uint8_t { kSilu, kGeluTanh };
enum class Position : uint8_t { kRotary, kLearned };
// How the names and the orientation of the weights read. kPhi3: Llama's, with queries, keys and values in one tensor,
// and gate and up in one.
enum class WeightNaming : uint8_t { kLlama, kPhi3, kGpt2 };

enum class RopeScaling : uint8_t { kNone, kLinear, kLlama3, kYarn };

struct RopeConfig {
  RopeScaling scaling = RopeScaling::kNone;
  double theta = 10000.0;
  double factor = 1.0;                  // linear, llama3, yarn
  double original_max_positions = 0.0;  // llama3, yarn
  double low_freq_factor = 1.0;         // llama3
  double high_freq_factor = 4.0;        // llama3
  double beta_fast = 32.0;              // yarn
  double beta_slow = 1.0;               // yarn
  bool truncate = true;                 // yarn: correction range in whole dimensions
  double attention_factor = 1.0;        // yarn: scales cos and sin
};

struct DecoderConfig {
  std::string architecture;
  WeightNaming naming = WeightNaming::kLlama;
  Norm norm = Norm::kRms;
  Activation activation = Activation::kSilu;
  Position position = Position::kRotary;
  bool gated_mlp = true;  // act(gate) * up; else act(up)
  bool qkv_bias = false;
  bool head_norm = false;  // each head of queries and keys has an RMSNorm of its own, before it is turned
  bool attention_out_bias = false;
  bool mlp_bias = false;
  bool tied_embeddings = false;

  int32_t layers = 0;
  int32_t hidden = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t intermediate = 0;
  int32_t vocab = 0;
  int32_t max_positions = 0;
  double norm_epsilon = 1e-6;
  RopeConfig rope;
  // Per layer: a query at position p sees the keys in (p - window, p]; 0: all keys up to p.
  std::vector<int32_t> windows;

  std::optional<DType> dtype;    // as the file states it, if it does
  std::vector<int32_t> eos_ids;  // generation_config.json's where it has any, else config.json's
};

// Architectures that can be served, for messages.
absl::string_view SupportedArchitectures();

// Parses the texts of config.json and, if there is one, generation_config.json.
absl::StatusOr<DecoderConfig> ParseDecoderConfig(absl::string_view config_json,
                                                 std::optional<absl::string_view> generation_config_json);

// Reads both files from a model folder.
absl::StatusOr<DecoderConfig> ReadDecoderConfig(const std::string& folder);

}  // namespace tandem::model

#endif  // TANDEM_BASE_MODEL_MODEL_CONFIG_H_
