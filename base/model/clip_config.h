// What config.json says about a CLIP model: two encoders, of texts and of pictures, whose vectors lie in one space.
//
// Both are transformers with the norm before each block. A text sees only what stands before it, and its vector is
// taken at its end token; a picture is cut into square patches, and its vector is taken at a class token in front of
// them. A setting that would change a vector and is not computed here is refused by its name.
#ifndef TANDEM_BASE_MODEL_CLIP_CONFIG_H_
#define TANDEM_BASE_MODEL_CLIP_CONFIG_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/model/dtype.h"
#include "base/model/image_preparation.h"

namespace tandem::model {

enum class ClipActivation : uint8_t { kQuickGelu, kGelu, kGeluTanh };

struct ClipTower {
  int32_t layers = 0;
  int32_t hidden = 0;
  int32_t heads = 0;
  int32_t head_dim = 0;
  int32_t intermediate = 0;
  int32_t positions = 0;  // rows of the table, and the most tokens
  ClipActivation activation = ClipActivation::kQuickGelu;
  double norm_epsilon = 1e-5;
};

struct ClipConfig {
  ClipTower text;
  ClipTower image;
  int32_t vocab = 0;
  // A text's vector is taken at the first of these; unset, as early files have it: at the first of its highest ids.
  std::optional<int32_t> end_token;
  int32_t side = 0;   // of the square picture, in pixels
  int32_t patch = 0;  // of a square patch; side is a multiple
  int32_t vector = 0;
  bool normalize = true;  // to length 1
  ImagePreparation preparation;
  std::optional<DType> dtype;  // as the file states it

  int32_t grid() const { return side / patch; }
  int32_t image_tokens() const { return grid() * grid() + 1; }
  int32_t patch_values() const { return 3 * patch * patch; }
  int64_t image_bytes() const { return int64_t{3} * side * side; }
  // Which of a text's tokens its vector is taken at.
  int64_t EndOf(absl::Span<const int32_t> tokens) const;
  // The longest input of either kind.
  int32_t max_tokens() const { return std::max(text.positions, image_tokens()); }
};

// True where config.json names CLIPModel. False for a folder that cannot be read: whoever reads it next says why.
bool IsClipFolder(const std::string& folder);

// `task` is embed; a CLIP model has no other.
absl::StatusOr<ClipConfig> ReadClipConfig(const std::string& folder, absl::string_view task);

}  // namespace tandem::model

#endif  // TANDEM_BASE_MODEL_CLIP_CONFIG_H_
