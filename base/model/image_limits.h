// How large a picture may be that a caller sends, and where that is decided: the gateway and the scheduler look at the
// file's size and first bytes only; the worker that computes it decodes it, within these limits.
#ifndef TANDEM_BASE_MODEL_IMAGE_LIMITS_H_
#define TANDEM_BASE_MODEL_IMAGE_LIMITS_H_

#include <cstdint>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"

namespace tandem::model {

inline constexpr int64_t kMaxImageFileBytes = int64_t{8} << 20;
// A file of a few kilobytes may claim any size: what is decoded is bounded by its claim, before a pixel is read.
inline constexpr int64_t kMaxImagePixels = int64_t{16} << 20;
inline constexpr int64_t kMaxImageSide = 16384;
// What the JPEG library may take for a picture that comes in several scans: the coefficients of three planes.
inline constexpr int64_t kMaxJpegBytes = 6 * kMaxImagePixels + (int64_t{8} << 20);
// Of decoding one picture at a time: its pixels, and what the library holds or, when that is gone, a turned copy.
inline constexpr int64_t kImageDecodeBytes = 3 * kMaxImagePixels + kMaxJpegBytes;

inline bool LooksLikePng(absl::string_view file) {
  return absl::StartsWith(file, absl::string_view("\x89PNG\r\n\x1a\n", 8));
}
inline bool LooksLikeJpeg(absl::string_view file) { return absl::StartsWith(file, "\xFF\xD8\xFF"); }

}  // namespace tandem::model

#endif  // TANDEM_BASE_MODEL_IMAGE_LIMITS_H_
