#include "worker/cuda/launch.h"
#include "worker/cuda/ops/element.h"
#include "worker/cuda/ops/patches.h"

namespace tandem::worker::cuda {
namespace {

constexpr unsigned int kThreads = 256;

// A thread for each value that is written, so that neighbours write side by side; the bytes that a block reads stay in
// the first cache.
template <class T>
__global__ void PatchKernel(PatchArgs args, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const int32_t patch = args.patch;
  const int32_t area = patch * patch;
  const int32_t grid = args.side / patch;
  const int64_t row = i / (3 * area);
  const int32_t at = static_cast<int32_t>(i % (3 * area));
  const int64_t image = row / (grid * grid + 1);
  const int32_t cut = static_cast<int32_t>(row % (grid * grid + 1)) - 1;
  float value = 0;
  if (cut >= 0) {
    const int32_t channel = at / area;
    const int32_t y = cut / grid * patch + at % area / patch;
    const int32_t x = cut % grid * patch + at % patch;
    const uint8_t byte = args.pixels[((image * args.side + y) * args.side + x) * 3 + channel];
    value = args.colours[channel * 256 + byte];
  }
  static_cast<T*>(args.output)[i] = FromFloat<T>(value);
}

}  // namespace

absl::Status CutPatches(const PatchArgs& args, cudaStream_t stream) {
  return ForSixteenBits("CutPatches", args.type, [&](auto type) {
    const int64_t grid = args.side / args.patch;
    const int64_t count = args.images * (grid * grid + 1) * 3 * args.patch * args.patch;
    return Launch("CutPatches", &PatchKernel<decltype(type)>, {dim3(BlocksFor(count, kThreads)), dim3(kThreads)},
                  stream, args, count);
  });
}

}  // namespace tandem::worker::cuda
