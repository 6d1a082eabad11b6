// JPEG by libjpeg-turbo, with the library's exact transform and smooth upsampling, which PIL uses too. Its errors leave
// through longjmp, so the function that it returns to holds plain values only.
// jpeglib.h needs what stands before it.
// clang-format off
#include <cstddef>
#include <cstdio>
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#include <csetjmp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/model/image_limits.h"
#include "worker/image/image_file.h"

namespace tandem::worker {
namespace {

constexpr int kExifMarker = JPEG_APP0 + 1;
constexpr absl::string_view kExifName("Exif\0\0", 6);
// A file of a few megabytes can hold a scan in every few bytes, each of which walks over the whole picture.
constexpr int kMaxScans = 100;

struct JpegSource {
  jpeg_error_mgr errors;
  std::jmp_buf back;
  char message[JMSG_LENGTH_MAX] = {};
  absl::Status refused;
  RgbImage image;
  std::vector<uint8_t> line;  // of a picture with four colours
  int orientation = 1;
};

JpegSource* SourceOf(j_common_ptr info) { return static_cast<JpegSource*>(info->client_data); }

[[noreturn]] void OnError(j_common_ptr info) {
  JpegSource* const source = SourceOf(info);
  (*info->err->format_message)(info, source->message);
  std::longjmp(source->back, 1);
}

// Damage that PIL, too, decodes around is no error; a file that ends early is one for both.
void OnMessage(j_common_ptr info, int level) {
  if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) OnError(info);
}

void CountScans(j_common_ptr info) {
  if (!info->is_decompressor) return;
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMaxScans) return;
  SourceOf(info)->refused = absl::InvalidArgumentError(absl::StrCat("the picture has more than ", kMaxScans, " scans"));
  std::longjmp(SourceOf(info)->back, 1);
}

// PIL's conversion. Files with four colours hold them inverted, by a convention of long standing.
void FromCmyk(const uint8_t* from, int64_t pixels, uint8_t* to) {
  for (int64_t i = 0; i < pixels; ++i, from += 4, to += 3) {
    const int light = from[3];  // 255 - black, and the others alike
    for (int c = 0; c < 3; ++c) {
      const int product = (255 - from[c]) * light + 128;
      const int value = light - ((product + (product >> 8)) >> 8);
      to[c] = static_cast<uint8_t>(value < 0 ? 0 : value);
    }
  }
}

// Takes memory for the picture, once its header is known. False: it is refused.
bool Prepare(const jpeg_decompress_struct& info, JpegSource* source) {
  source->refused = CheckImageSize(info.image_width, info.image_height);
  if (!source->refused.ok()) return false;
  if (info.num_components != 1 && info.num_components != 3 && info.num_components != 4) {
    source->refused = absl::InvalidArgumentError(
        absl::StrCat("the JPEG file has ", info.num_components, " colours; 1, 3 and 4 are read"));
    return false;
  }
  source->image.width = static_cast<int32_t>(info.image_width);
  source->image.height = static_cast<int32_t>(info.image_height);
  source->image.pixels.resize(size_t{3} * info.image_width * info.image_height);
  if (info.num_components == 4) source->line.resize(size_t{4} * info.image_width);
  return true;
}

void ReadOrientation(const jpeg_decompress_struct& info, JpegSource* source) {
  for (const jpeg_marker_struct* marker = info.marker_list; marker != nullptr; marker = marker->next) {
    const absl::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
    if (marker->marker != kExifMarker || data.substr(0, kExifName.size()) != kExifName) continue;
    source->orientation = ExifOrientation(data.substr(kExifName.size()));
    return;
  }
}

// False: `source` says why. Holds nothing that a longjmp would leave behind.
bool Decode(jpeg_decompress_struct* info, absl::string_view file, JpegSource* source) {
  jpeg_progress_mgr progress = {};
  progress.progress_monitor = CountScans;
  if (setjmp(source->back) != 0) return false;
  jpeg_create_decompress(info);
  info->client_data = source;  // jpeg_create_decompress keeps err and client_data; said again for the reader
  info->progress = &progress;
  info->mem->max_memory_to_use = static_cast<long>(model::kMaxJpegBytes);
  jpeg_mem_src(info, reinterpret_cast<const unsigned char*>(file.data()), file.size());
  jpeg_save_markers(info, kExifMarker, 0xFFFF);
  jpeg_read_header(info, TRUE);
  if (!Prepare(*info, source)) return false;
  ReadOrientation(*info, source);
  info->out_color_space = info->num_components == 4 ? JCS_CMYK : JCS_RGB;
  info->dct_method = JDCT_ISLOW;
  jpeg_start_decompress(info);
  while (info->output_scanline < info->output_height) {
    uint8_t* const row = source->image.row(info->output_scanline);
    JSAMPROW to = source->line.empty() ? row : source->line.data();
    if (jpeg_read_scanlines(info, &to, 1) != 1) return false;
    if (!source->line.empty()) FromCmyk(source->line.data(), source->image.width, row);
  }
  jpeg_finish_decompress(info);
  return true;
}

}  // namespace

absl::StatusOr<RgbImage> DecodeJpeg(absl::string_view file, int* orientation) {
  JpegSource source;
  jpeg_decompress_struct info = {};
  info.err = jpeg_std_error(&source.errors);
  source.errors.error_exit = OnError;
  source.errors.emit_message = OnMessage;
  info.client_data = &source;
  const bool decoded = Decode(&info, file, &source);
  jpeg_destroy_decompress(&info);
  if (!source.refused.ok()) return source.refused;
  if (!decoded) return absl::InvalidArgumentError(absl::StrCat("the JPEG file cannot be decoded: ", source.message));
  *orientation = source.orientation;
  return std::move(source.image);
}

}  // namespace tandem::worker
