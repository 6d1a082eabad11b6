#include "worker/image/image_file.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/model/image_limits.h"

namespace tandem::worker {
namespace {

constexpr int kUpright = 1;
constexpr uint32_t kOrientationTag = 0x0112;
constexpr uint32_t kShort = 3;

// Unsigned numbers of a TIFF block in its own byte order; zero beyond its end.
class TiffReader {
 public:
  explicit TiffReader(absl::string_view bytes) : bytes_(bytes), big_(bytes.substr(0, 2) == "MM") {}

  uint32_t Read(size_t at, size_t count) const {
    if (at > bytes_.size() || bytes_.size() - at < count) return 0;
    uint32_t value = 0;
    for (size_t i = 0; i < count; ++i) {
      const size_t from = big_ ? i : count - 1 - i;
      value = value << 8 | static_cast<uint8_t>(bytes_[at + from]);
    }
    return value;
  }

 private:
  const absl::string_view bytes_;
  const bool big_;
};

}  // namespace

absl::StatusOr<RgbImage> DecodeImage(absl::string_view file) {
  if (static_cast<int64_t>(file.size()) > model::kMaxImageFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the picture's file has ", file.size(), " bytes; allowed are ", model::kMaxImageFileBytes));
  }
  int orientation = kUpright;
  absl::StatusOr<RgbImage> image = absl::InvalidArgumentError("the picture is neither a PNG nor a JPEG file");
  if (model::LooksLikePng(file)) image = DecodePng(file, &orientation);
  if (model::LooksLikeJpeg(file)) image = DecodeJpeg(file, &orientation);
  if (!image.ok()) return image;
  return Turn(*std::move(image), orientation);
}

absl::Status CheckImageSize(int64_t width, int64_t height) {
  if (width < 1 || height < 1) return absl::InvalidArgumentError("the picture has no pixels");
  if (width > model::kMaxImageSide || height > model::kMaxImageSide || width * height > model::kMaxImagePixels) {
    return absl::InvalidArgumentError(absl::StrCat("the picture has ", width, " x ", height, " pixels; allowed are ",
                                                   model::kMaxImagePixels, " in all and ", model::kMaxImageSide,
                                                   " on a side"));
  }
  return absl::OkStatus();
}

int ExifOrientation(absl::string_view exif) {
  const absl::string_view order = exif.substr(0, 2);
  const TiffReader tiff(exif);
  if ((order != "II" && order != "MM") || tiff.Read(2, 2) != 42) return kUpright;
  const size_t directory = tiff.Read(4, 4);
  const uint32_t entries = tiff.Read(directory, 2);
  for (uint32_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + size_t{12} * i;
    if (entry >= exif.size()) break;
    if (tiff.Read(entry, 2) != kOrientationTag || tiff.Read(entry + 2, 2) != kShort) continue;
    const uint32_t value = tiff.Read(entry + 8, 2);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : kUpright;
  }
  return kUpright;
}

RgbImage Turn(RgbImage image, int orientation) {
  if (orientation <= kUpright || orientation > 8) return image;
  // Of the upright picture: 5 to 8 have swapped sides, and these walk the stored rows and columns backwards.
  const bool swapped = orientation >= 5;
  const bool columns_back = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool rows_back = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  RgbImage out;
  out.width = swapped ? image.height : image.width;
  out.height = swapped ? image.width : image.height;
  out.pixels.resize(image.pixels.size());
  for (int64_t y = 0; y < out.height; ++y) {
    uint8_t* to = out.row(y);
    for (int64_t x = 0; x < out.width; ++x, to += 3) {
      const int64_t column = swapped ? y : x;
      const int64_t row = swapped ? x : y;
      const uint8_t* const from =
          image.row(rows_back ? image.height - 1 - row : row) + 3 * (columns_back ? image.width - 1 - column : column);
      std::memcpy(to, from, 3);
    }
  }
  return out;
}

}  // namespace tandem::worker
