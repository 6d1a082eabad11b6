// Brings a picture to the size that a model takes: PIL's bicubic resize, bit for bit, and the middle of what it gives.
//
// Only the pixels that the crop keeps are computed, so a picture of one row costs no more than a square one.
#ifndef TANDEM_WORKER_IMAGE_PREPARE_IMAGE_H_
#define TANDEM_WORKER_IMAGE_PREPARE_IMAGE_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/model/image_preparation.h"
#include "worker/image/rgb_image.h"

namespace tandem::worker {

// A window of a picture that is larger than it: [top, top + height) x [left, left + width).
struct Window {
  int64_t top = 0;
  int64_t left = 0;
  int32_t height = 0;
  int32_t width = 0;
};

// The window of `image` resized to `width` x `height`. REQUIRES: the window lies within.
RgbImage ResizeBicubic(const RgbImage& image, int64_t width, int64_t height, const Window& window);

RgbImage PrepareImage(const RgbImage& image, const model::ImagePreparation& preparation);

// Of a file that a caller sent. Errors as DecodeImage's.
absl::StatusOr<std::vector<uint8_t>> ReadPixels(absl::string_view file, const model::ImagePreparation& preparation);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_IMAGE_PREPARE_IMAGE_H_
