// Decodes a PNG or JPEG file that a caller sent, to the pixels that the reference hands to its resize: those of PIL's
// Image.open after ImageOps.exif_transpose and transformers' convert_to_rgb. A picture that was taken lying is put
// upright, what is transparent is laid on white, grey and palettes are spelled out, 16 bits a colour are cut to 8, CMYK
// is converted.
//
// The file is hostile until proven otherwise. What it claims is checked against base/model/image_limits.h before
// memory is taken for it, and whatever is wrong with it is INVALID_ARGUMENT with one sentence for the caller. Nothing
// is ever fetched. Any thread.
#ifndef TANDEM_WORKER_IMAGE_IMAGE_FILE_H_
#define TANDEM_WORKER_IMAGE_IMAGE_FILE_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/image/rgb_image.h"

namespace tandem::worker {

absl::StatusOr<RgbImage> DecodeImage(absl::string_view file);

// The two formats, not yet turned. `orientation` is set to the file's EXIF orientation, 1 to 8.
absl::StatusOr<RgbImage> DecodePng(absl::string_view file, int* orientation);
absl::StatusOr<RgbImage> DecodeJpeg(absl::string_view file, int* orientation);

// OK, or why no picture of this size is taken.
absl::Status CheckImageSize(int64_t width, int64_t height);

// The orientation in an EXIF block that begins with its TIFF header; 1 where it says none or is damaged.
int ExifOrientation(absl::string_view exif);

// The picture upright.
RgbImage Turn(RgbImage image, int orientation);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_IMAGE_IMAGE_FILE_H_
