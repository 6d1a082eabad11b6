// PNG by libpng. Its errors leave through longjmp, so the function that it returns to holds plain values only; whatever
// has a destructor lives in the caller's frame.
#include <png.h>

#include <csetjmp>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/model/image_limits.h"
#include "worker/image/image_file.h"

namespace tandem::worker {
namespace {

constexpr png_alloc_size_t kMaxChunkBytes = 1 << 20;  // of what is not pixels: a palette, a profile, a text
constexpr int kMaxChunks = 64;

struct PngSource {
  absl::string_view rest;
  std::string error;
  absl::Status refused;
  RgbImage image;
  std::vector<uint8_t> clear;  // with transparency: the picture with a fourth byte for each pixel
  std::vector<png_bytep> rows;
  int orientation = 1;
};

void ReadBytes(png_structp png, png_bytep to, size_t count) {
  auto* const source = static_cast<PngSource*>(png_get_io_ptr(png));
  if (source->rest.size() < count) png_error(png, "the file ends early");
  std::memcpy(to, source->rest.data(), count);
  source->rest.remove_prefix(count);
}

void OnError(png_structp png, png_const_charp message) {
  static_cast<PngSource*>(png_get_error_ptr(png))->error = message;
  png_longjmp(png, 1);
}

void OnWarning(png_structp, png_const_charp) {}

// Takes memory for the picture, once its header is known. False: it is refused.
bool Prepare(png_structp png, png_infop info, PngSource* source) {
  const int64_t width = png_get_image_width(png, info);
  const int64_t height = png_get_image_height(png, info);
  source->refused = CheckImageSize(width, height);
  if (!source->refused.ok()) return false;
  const int colours = png_get_color_type(png, info);
  if (colours == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(png, info) == 16) {
    // There is no way to eight bits that all readers share; PIL takes what is above 255 for white.
    source->refused = absl::InvalidArgumentError("the picture is grey with 16 bits; send it with 8");
    return false;
  }
  source->image.width = static_cast<int32_t>(width);
  source->image.height = static_cast<int32_t>(height);
  const bool clear = (colours & PNG_COLOR_MASK_ALPHA) != 0 || png_get_valid(png, info, PNG_INFO_tRNS) != 0;
  source->image.pixels.resize(static_cast<size_t>(width * height * 3));
  if (clear) source->clear.resize(static_cast<size_t>(width * height * 4));
  for (int64_t y = 0; y < height; ++y) {
    source->rows.push_back(clear ? source->clear.data() + y * width * 4 : source->image.row(y));
  }
  return true;
}

// Lays the picture on white, with PIL's roundings.
void Flatten(const std::vector<uint8_t>& clear, std::vector<uint8_t>* pixels) {
  const uint8_t* from = clear.data();
  for (uint8_t *to = pixels->data(), *end = to + pixels->size(); to != end; from += 4, to += 3) {
    const uint32_t seen = from[3];
    for (int c = 0; c < 3; ++c) {
      const uint32_t sum = ((from[c] * seen + 255 * (255 - seen)) << 7) + (0x80 << 7);
      to[c] = static_cast<uint8_t>(((sum >> 8) + sum) >> 15);
    }
  }
}

// False: `source` says why. Holds nothing that a longjmp would leave behind.
bool Decode(png_structp png, png_infop info, PngSource* source) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_set_read_fn(png, source, ReadBytes);
  png_set_user_limits(png, static_cast<png_uint_32>(model::kMaxImageSide),
                      static_cast<png_uint_32>(model::kMaxImageSide));
  png_set_chunk_malloc_max(png, kMaxChunkBytes);
  png_set_chunk_cache_max(png, kMaxChunks);
  png_read_info(png, info);
  if (!Prepare(png, info, source)) return false;
  png_set_strip_16(png);
  png_set_palette_to_rgb(png);
  png_set_expand_gray_1_2_4_to_8(png);
  png_set_gray_to_rgb(png);
  png_set_tRNS_to_alpha(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  const size_t pixel_bytes = source->clear.empty() ? 3 : 4;
  if (png_get_rowbytes(png, info) != static_cast<size_t>(source->image.width) * pixel_bytes) {
    png_error(png, "its colours are of a kind that is not known");
  }
  png_read_image(png, source->rows.data());
  png_read_end(png, info);
  png_bytep exif = nullptr;
  png_uint_32 exif_bytes = 0;
  if (png_get_eXIf_1(png, info, &exif_bytes, &exif) != 0) {
    source->orientation = ExifOrientation({reinterpret_cast<const char*>(exif), exif_bytes});
  }
  return true;
}

}  // namespace

absl::StatusOr<RgbImage> DecodePng(absl::string_view file, int* orientation) {
  PngSource source{.rest = file};
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &source, OnError, OnWarning);
  if (png == nullptr) return absl::ResourceExhaustedError("no memory to decode the picture");
  png_infop info = png_create_info_struct(png);
  const bool decoded = info != nullptr && Decode(png, info, &source);
  png_destroy_read_struct(&png, &info, nullptr);
  if (!source.refused.ok()) return source.refused;
  if (!decoded) return absl::InvalidArgumentError(absl::StrCat("the PNG file cannot be decoded: ", source.error));
  if (!source.clear.empty()) Flatten(source.clear, &source.image.pixels);
  *orientation = source.orientation;
  return std::move(source.image);
}

}  // namespace tandem::worker
