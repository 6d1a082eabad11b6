// What the files of a model folder say about an encoder: config.json, and beside it what sentence-transformers writes
// (modules.json, 1_Pooling/config.json, sentence_bert_config.json). Checked, and in one shape for every family.
//
// An encoder reads a whole text at once, every token seeing every other, and answers with one vector: the pooled hidden
// states (task embed) or the scores of a classification head (task rerank). A setting that would change the result and
// is not computed here is refused by its name.
#ifndef TANDEM_BASE_MODEL_ENCODER_CONFIG_H_
#define TANDEM_BASE_MODEL_ENCODER_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/model/dtype.h"

namespace tandem::model {

enum class EncoderNaming : uint8_t { kBert, kRoberta };
enum class EncoderActivation : uint8_t { kGelu, kGeluTanh, kRelu };
enum class Pooling : uint8_t { kMean, kFirst, kLast, kMax };
enum class EncoderHead : uint8_t {
  kPooled,      // the hidden states, pooled
  kClassifier,  // dense and tanh over the first token's state, then one number per label
};

struct EncoderConfig {
  std::string architecture;
  EncoderNaming naming = EncoderNaming::kBert;
  EncoderActivation activation = EncoderActivation::kGelu;
  int32_t layers = 0;
  int32_t hidden = 0;
  int32_t heads = 0;
  int32_t head_dim = 0;
  int32_t intermediate = 0;
  int32_t vocab = 0;
  int32_t positions = 0;       // rows of the table
  int32_t first_position = 0;  // the row of a text's first token
  int32_t types = 0;           // rows of the segments' table
  double norm_epsilon = 1e-12;

  EncoderHead head = EncoderHead::kPooled;
  Pooling pooling = Pooling::kMean;
  bool normalize = false;  // to length 1
  int32_t labels = 0;      // of a classifier
  bool sigmoid = false;    // over the labels

  int32_t max_tokens = 0;      // of one input, all that is put around it included
  std::optional<DType> dtype;  // as the file states it

  int32_t vector_size() const { return head == EncoderHead::kPooled ? hidden : labels; }
};

// Architectures that can be served, for messages.
absl::string_view SupportedEncoders();

// `task` is embed or rerank; a model of the other kind is refused.
absl::StatusOr<EncoderConfig> ReadEncoderConfig(const std::string& folder, absl::string_view task);

}  // namespace tandem::model

#endif  // TANDEM_BASE_MODEL_ENCODER_CONFIG_H_
