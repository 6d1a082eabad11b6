// Fuzz entry for pictures that callers send: decoded and brought to size. Errors are fine, crashes are not.
// With clang: -fsanitize=fuzzer,address and this file. Without: image_fuzz_test.cc feeds it.
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "worker/image/image_file.h"
#include "worker/image/prepare_image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tandem::worker;
  const auto image = DecodeImage(absl::string_view(reinterpret_cast<const char*>(data), size));
  if (!image.ok()) return 0;
  if (image->pixels.size() != size_t{3} * static_cast<size_t>(image->width) * static_cast<size_t>(image->height)) {
    __builtin_trap();
  }
  tandem::model::ImagePreparation preparation;
  preparation.shortest_edge = 32;
  preparation.crop_height = preparation.crop_width = 24;
  if (PrepareImage(*image, preparation).pixels.size() != size_t{3} * 24 * 24) __builtin_trap();
  return 0;
}
