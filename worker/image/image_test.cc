// Pictures against PIL and CLIPImageProcessor (scripts/goldens/make_clip_goldens.py), and files that are no pictures.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/model/image_limits.h"
#include "base/model/json_fields.h"
#include "base/model/safetensors.h"
#include "worker/image/image_file.h"
#include "worker/image/prepare_image.h"

namespace tandem::worker {
namespace {

namespace fs = std::filesystem;
using ::testing::AnyOf;
using ::testing::HasSubstr;

fs::path Folder() {
  const char* root = std::getenv("TANDEM_SOURCE_DIR");
  return fs::path(root != nullptr ? root : ".") / "tests/golden/images";
}

std::string ReadFile(const std::string& name) {
  const absl::StatusOr<std::string> file = model::ReadSmallFile((Folder() / name).string(), 1 << 20);
  EXPECT_TRUE(file.ok()) << file.status();
  return file.value_or("");
}

struct Golden {
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;
};

std::map<std::string, Golden> ReadGoldens() {
  const std::string file = ReadFile("golden.safetensors");
  const auto length = model::SafetensorsHeaderLength(file, static_cast<int64_t>(file.size()), "golden");
  EXPECT_TRUE(length.ok()) << length.status();
  const size_t data = static_cast<size_t>(8 + *length);
  const auto tensors = model::ParseSafetensorsHeader(absl::string_view(file).substr(8, data - 8),
                                                     static_cast<int64_t>(file.size() - data), "golden");
  EXPECT_TRUE(tensors.ok()) << tensors.status();
  std::map<std::string, Golden> goldens;
  for (const auto& [name, info] : *tensors) {
    const auto begin = file.begin() + static_cast<std::ptrdiff_t>(data);
    goldens[name] = {info.shape, {begin + info.begin, begin + info.end}};
  }
  return goldens;
}

model::ImagePreparation ShorterEdge(int32_t edge, int32_t crop) {
  model::ImagePreparation preparation;
  preparation.shortest_edge = edge;
  preparation.crop_height = preparation.crop_width = crop;
  return preparation;
}

// How far `got` is from the golden bytes, at the worst place.
int Distance(const RgbImage& got, const Golden& golden, const std::string& name) {
  EXPECT_EQ((std::vector<int64_t>{got.height, got.width, 3}), golden.shape) << name;
  if (got.pixels.size() != golden.bytes.size()) return 256;
  int worst = 0;
  for (size_t i = 0; i < got.pixels.size(); ++i) {
    worst = std::max(worst, std::abs(int{got.pixels[i]} - int{golden.bytes[i]}));
  }
  return worst;
}

TEST(ImageTest, EveryKindOfFileHasPilsPixels) {
  const auto goldens = ReadGoldens();
  int files = 0;
  for (const auto& entry : fs::directory_iterator(Folder())) {
    const std::string name = entry.path().filename().string();
    const auto golden = goldens.find(name + ".pixels");
    if (golden == goldens.end()) continue;
    ++files;
    const auto image = DecodeImage(ReadFile(name));
    ASSERT_TRUE(image.ok()) << name << ": " << image.status();
    EXPECT_EQ(Distance(*image, golden->second, name), 0) << name;
  }
  EXPECT_GE(files, 35);
}

// The resize is PIL's bit for bit; the crop is that of the reference.
TEST(ImageTest, PreparedPixelsEqualTheReference) {
  const auto goldens = ReadGoldens();
  for (const auto& [key, golden] : goldens) {
    const std::string name = key.substr(0, key.rfind('.'));
    if (key != name + ".prepared") continue;
    const auto image = DecodeImage(ReadFile(name));
    ASSERT_TRUE(image.ok()) << name << ": " << image.status();
    EXPECT_EQ(Distance(PrepareImage(*image, ShorterEdge(32, 32)), golden, name), 0) << name;
  }
}

TEST(ImageTest, ACropThatIsLargerThanThePictureIsBlackAround) {
  const RgbImage image{.width = 2, .height = 1, .pixels = {1, 2, 3, 4, 5, 6}};
  const RgbImage out = PrepareImage(image, ShorterEdge(1, 4));
  ASSERT_EQ(out.pixels.size(), 48u);
  EXPECT_EQ(std::vector<uint8_t>(out.pixels.begin() + 24 + 3, out.pixels.begin() + 24 + 9), image.pixels);
  EXPECT_EQ(std::count(out.pixels.begin(), out.pixels.end(), 0), 42);
}

// A picture of one row would be 3.6 million pixels wide at CLIP's size; only what the crop keeps is computed.
TEST(ImageTest, AnExtremeShapeCostsNoMoreThanItsCrop) {
  RgbImage image{.width = 16384, .height = 1, .pixels = {}};
  image.pixels.assign(size_t{16384} * 3, 77);
  const RgbImage out = PrepareImage(image, ShorterEdge(224, 224));
  EXPECT_EQ(out.width, 224);
  EXPECT_EQ(std::set<uint8_t>(out.pixels.begin(), out.pixels.end()), std::set<uint8_t>{77});
}

std::string Refusal(const std::string& file) {
  const auto image = DecodeImage(file);
  EXPECT_EQ(image.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(image.status().message());
}

TEST(ImageTest, WhatIsNoPictureIsRefusedWithTheReason) {
  EXPECT_THAT(Refusal(""), HasSubstr("neither a PNG nor a JPEG"));
  EXPECT_THAT(Refusal("GIF89a.............."), HasSubstr("neither a PNG nor a JPEG"));
  EXPECT_THAT(Refusal(ReadFile("grey_16bit.png")), HasSubstr("grey with 16 bits"));
  EXPECT_THAT(Refusal(std::string(static_cast<size_t>(model::kMaxImageFileBytes) + 1, 'x')), HasSubstr("allowed are"));
}

TEST(ImageTest, AFileThatEndsEarlyIsRefusedWhereverItEnds) {
  for (const char* name : {"rgb.png", "interlaced.png", "half.jpg", "progressive.jpg", "cmyk.jpg"}) {
    const std::string file = ReadFile(name);
    for (size_t size = 16; size + 16 < file.size(); size += 61) {
      EXPECT_THAT(Refusal(file.substr(0, size)), HasSubstr("cannot be decoded")) << name << ", " << size << " bytes";
    }
  }
}

// The header claims a picture of gigabytes; it is believed only as a reason to refuse.
TEST(ImageTest, AClaimOfTooManyPixelsIsRefusedBeforeTheyAreDecoded) {
  std::string png = ReadFile("rgb.png");
  const std::string size("\x00\x00\x40\x00\x00\x00\x40\x00", 8);
  png.replace(16, 8, size);
  // A wrong checksum of the header is found first, so it is left to the limits of the library as well.
  EXPECT_THAT(Refusal(png), AnyOf(HasSubstr("allowed are"), HasSubstr("cannot be decoded")));
  std::string jpeg = ReadFile("rgb.jpg");
  const size_t frame = jpeg.find("\xFF\xC0");
  ASSERT_NE(frame, std::string::npos);
  jpeg.replace(frame + 5, 4, "\x40\x01\x40\x01");
  EXPECT_THAT(Refusal(jpeg), HasSubstr("16385 x 16385 pixels; allowed are"));
  jpeg.replace(frame + 5, 4, "\x20\x00\x20\x00", 4);
  EXPECT_THAT(Refusal(jpeg), HasSubstr("8192 x 8192 pixels; allowed are"));
  EXPECT_FALSE(CheckImageSize(0, 5).ok());
  EXPECT_TRUE(CheckImageSize(4096, 4096).ok());
  EXPECT_FALSE(CheckImageSize(4096, 4097).ok());
}

// Each scan of a progressive file walks over the whole picture, and takes a dozen bytes.
TEST(ImageTest, AFileOfEndlesslyManyScansIsRefused) {
  const std::string file = ReadFile("progressive.jpg");
  const size_t last = file.rfind("\xFF\xDA");
  ASSERT_NE(last, std::string::npos);
  const std::string scan = file.substr(last, file.size() - 2 - last);
  std::string bomb = file.substr(0, file.size() - 2);
  for (int i = 0; i < 400; ++i) bomb += scan;
  EXPECT_THAT(Refusal(bomb + "\xFF\xD9"), HasSubstr("scans"));
}

TEST(ImageTest, ADamagedExifBlockMeansUpright) {
  EXPECT_EQ(ExifOrientation(""), 1);
  EXPECT_EQ(ExifOrientation("MM"), 1);
  EXPECT_EQ(ExifOrientation(absl::string_view("II*\0\xff\xff\xff\xff", 8)), 1);
  EXPECT_EQ(ExifOrientation(absl::string_view("II*\0\x08\0\0\0\xff\xff", 10)), 1);
  EXPECT_EQ(ExifOrientation(absl::string_view("II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x09\0\0\0", 22)), 1);
  EXPECT_EQ(ExifOrientation(absl::string_view("II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x08\0\0\0", 22)), 8);
}

}  // namespace
}  // namespace tandem::worker
