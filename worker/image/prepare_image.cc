#include "worker/image/prepare_image.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "worker/image/image_file.h"

namespace tandem::worker {
namespace {

constexpr double kReach = 2.0;  // of the cubic kernel, in pixels of the coarser side
// Weights are whole numbers of this many bits behind the point: a byte times a sum of them keeps within 32 bits.
constexpr int kWeightBits = 32 - 8 - 2;

double Cubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

// Which pixels make up each pixel of one side of the result, and how much of each.
struct Weights {
  std::vector<int32_t> first;  // of each pixel of the result
  std::vector<int32_t> count;
  std::vector<int32_t> values;  // [result][most]
  int64_t most = 0;

  const int32_t* of(int64_t i) const { return values.data() + i * most; }
};

Weights MakeWeights(int64_t from, int64_t to, int64_t begin, int64_t size) {
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  const double stretch = std::max(scale, 1.0);
  const double support = kReach * stretch;
  Weights weights;
  weights.most = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
  weights.values.assign(static_cast<size_t>(size * weights.most), 0);
  std::vector<double> exact(static_cast<size_t>(weights.most));
  for (int64_t i = 0; i < size; ++i) {
    const double center = (static_cast<double>(begin + i) + 0.5) * scale;
    const auto low = std::max<int64_t>(0, static_cast<int64_t>(center - support + 0.5));
    const auto high = std::min<int64_t>(from, static_cast<int64_t>(center + support + 0.5));
    double total = 0;
    for (int64_t k = low; k < high; ++k) {
      const double value = Cubic((static_cast<double>(k) - center + 0.5) * (1.0 / stretch));
      exact[static_cast<size_t>(k - low)] = value;
      total += value;
    }
    int32_t* const out = weights.values.data() + i * weights.most;
    for (int64_t k = 0; k < high - low; ++k) {
      double value = exact[static_cast<size_t>(k)];
      if (total != 0.0) value /= total;
      value *= int64_t{1} << kWeightBits;
      out[k] = static_cast<int32_t>(value < 0 ? value - 0.5 : value + 0.5);
    }
    weights.first.push_back(static_cast<int32_t>(low));
    weights.count.push_back(static_cast<int32_t>(high - low));
  }
  return weights;
}

// Three colours, each the sum of `count` pixels `stride` bytes apart.
void Sum(const uint8_t* from, int64_t stride, const int32_t* weights, int32_t count, uint8_t* to) {
  int32_t sum[3] = {1 << (kWeightBits - 1), 1 << (kWeightBits - 1), 1 << (kWeightBits - 1)};
  for (int32_t k = 0; k < count; ++k, from += stride) {
    for (int c = 0; c < 3; ++c) sum[c] += from[c] * weights[k];
  }
  for (int c = 0; c < 3; ++c) to[c] = static_cast<uint8_t>(std::clamp(sum[c] >> kWeightBits, 0, 255));
}

RgbImage Cut(const RgbImage& image, const Window& window) {
  RgbImage out{.width = window.width, .height = window.height, .pixels = {}};
  out.pixels.resize(size_t{3} * static_cast<size_t>(window.width) * static_cast<size_t>(window.height));
  for (int64_t y = 0; y < window.height; ++y) {
    std::memcpy(out.row(y), image.row(window.top + y) + 3 * window.left, size_t{3} * static_cast<size_t>(window.width));
  }
  return out;
}

// Black around `image`, which stands in the middle; of an odd rest the larger half is in front.
RgbImage Pad(const RgbImage& image, int32_t width, int32_t height) {
  RgbImage out{.width = width, .height = height, .pixels = {}};
  out.pixels.assign(size_t{3} * static_cast<size_t>(width) * static_cast<size_t>(height), 0);
  const int64_t top = (height - image.height + 1) / 2;
  const int64_t left = (width - image.width + 1) / 2;
  for (int64_t y = 0; y < image.height; ++y) {
    std::memcpy(out.row(top + y) + 3 * left, image.row(y), size_t{3} * static_cast<size_t>(image.width));
  }
  return out;
}

}  // namespace

RgbImage ResizeBicubic(const RgbImage& image, int64_t width, int64_t height, const Window& window) {
  // A side that keeps its length is not touched. First across, for the rows that are needed, then down.
  const bool across = image.width != width;
  const bool down = image.height != height;
  const Weights rows = MakeWeights(image.height, height, window.top, window.height);
  const int64_t top = down ? rows.first.front() : window.top;
  const int64_t end = down ? rows.first.back() + rows.count.back() : window.top + window.height;
  RgbImage wide;
  if (across) {
    const Weights columns = MakeWeights(image.width, width, window.left, window.width);
    wide.width = window.width;
    wide.height = static_cast<int32_t>(end - top);
    wide.pixels.resize(size_t{3} * static_cast<size_t>(wide.width) * static_cast<size_t>(wide.height));
    for (int64_t y = 0; y < wide.height; ++y) {
      const uint8_t* const from = image.row(top + y);
      uint8_t* const to = wide.row(y);
      for (int64_t x = 0; x < wide.width; ++x) {
        Sum(from + 3 * int64_t{columns.first[static_cast<size_t>(x)]}, 3, columns.of(x),
            columns.count[static_cast<size_t>(x)], to + 3 * x);
      }
    }
  } else {
    wide =
        Cut(image, {.top = top, .left = window.left, .height = static_cast<int32_t>(end - top), .width = window.width});
  }
  if (!down) return wide;
  RgbImage out{.width = window.width, .height = window.height, .pixels = {}};
  out.pixels.resize(size_t{3} * static_cast<size_t>(out.width) * static_cast<size_t>(out.height));
  const int64_t stride = int64_t{3} * wide.width;
  for (int64_t y = 0; y < out.height; ++y) {
    const uint8_t* const from = wide.row(rows.first[static_cast<size_t>(y)] - top);
    for (int64_t x = 0; x < out.width; ++x) {
      Sum(from + 3 * x, stride, rows.of(y), rows.count[static_cast<size_t>(y)], out.row(y) + 3 * x);
    }
  }
  return out;
}

RgbImage PrepareImage(const RgbImage& image, const model::ImagePreparation& preparation) {
  int64_t width = image.width;
  int64_t height = image.height;
  if (preparation.resize && preparation.shortest_edge > 0) {
    const int64_t edge = preparation.shortest_edge;
    (width <= height ? height : width) = edge * std::max(width, height) / std::min(width, height);
    (image.width <= image.height ? width : height) = edge;
  } else if (preparation.resize) {
    width = preparation.resize_width;
    height = preparation.resize_height;
  }
  const int32_t crop_width = preparation.crop ? preparation.crop_width : static_cast<int32_t>(width);
  const int32_t crop_height = preparation.crop ? preparation.crop_height : static_cast<int32_t>(height);
  Window window;
  window.width = static_cast<int32_t>(std::min<int64_t>(crop_width, width));
  window.height = static_cast<int32_t>(std::min<int64_t>(crop_height, height));
  window.left = (width - window.width) / 2;
  window.top = (height - window.height) / 2;
  RgbImage out = ResizeBicubic(image, width, height, window);
  if (out.width == crop_width && out.height == crop_height) return out;
  return Pad(out, crop_width, crop_height);
}

absl::StatusOr<std::vector<uint8_t>> ReadPixels(absl::string_view file, const model::ImagePreparation& preparation) {
  const absl::StatusOr<RgbImage> image = DecodeImage(file);
  if (!image.ok()) return image.status();
  return PrepareImage(*image, preparation).pixels;
}

}  // namespace tandem::worker
