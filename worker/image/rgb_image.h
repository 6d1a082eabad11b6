// A picture in memory: rows from the top, red, green and blue bytes side by side, no gap between rows.
#ifndef TANDEM_WORKER_IMAGE_RGB_IMAGE_H_
#define TANDEM_WORKER_IMAGE_RGB_IMAGE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tandem::worker {

struct RgbImage {
  int32_t width = 0;
  int32_t height = 0;
  std::vector<uint8_t> pixels;  // [height][width][3]

  uint8_t* row(int64_t y) { return pixels.data() + y * width * 3; }
  const uint8_t* row(int64_t y) const { return pixels.data() + y * width * 3; }
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_IMAGE_RGB_IMAGE_H_
