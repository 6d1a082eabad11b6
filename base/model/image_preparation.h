// What preprocessor_config.json says becomes of a picture before a model sees it: resize, crop, and one scale and shift
// per colour. A setting that would change the pixels and is not computed here is refused by its name.
#ifndef TANDEM_BASE_MODEL_IMAGE_PREPARATION_H_
#define TANDEM_BASE_MODEL_IMAGE_PREPARATION_H_

#include <array>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace tandem::model {

// What a model sees of each byte of red, green and blue.
using ColourTable = std::array<std::array<float, 256>, 3>;

struct ImagePreparation {
  bool resize = true;
  // Either the shorter edge becomes this long and the other follows, or both become what is said.
  int32_t shortest_edge = 0;  // 0: resize_height and resize_width count
  int32_t resize_height = 0;
  int32_t resize_width = 0;
  bool crop = true;  // the middle; where the picture is smaller, black is put around it
  int32_t crop_height = 0;
  int32_t crop_width = 0;
  double scale = 1.0;                           // of every byte, then
  std::array<double, 3> mean = {0, 0, 0};       // is taken away,
  std::array<double, 3> deviation = {1, 1, 1};  // and this divides

  // With the roundings of the reference.
  ColourTable Colours() const;
};

// `side`: height and width of what must come out.
absl::StatusOr<ImagePreparation> ReadImagePreparation(const std::string& folder, int32_t side);

}  // namespace tandem::model

#endif  // TANDEM_BASE_MODEL_IMAGE_PREPARATION_H_
