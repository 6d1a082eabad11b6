#include "worker/cuda/launch.h"
#include "worker/cuda/ops/element.h"
#include "worker/cuda/ops/gather.h"

namespace tandem::worker::cuda {
namespace {

template <class T>
__global__ void GatherKernel(const T* input, const int32_t* row_index, T* output, int64_t columns) {
  const int64_t row = blockIdx.x;
  const int64_t source = row_index[row];
  for (int64_t i = threadIdx.x; i < columns; i += blockDim.x) {
    output[row * columns + i] = source < 0 ? FromFloat<T>(0.0f) : input[source * columns + i];
  }
}

}  // namespace

absl::Status GatherRows(const GatherArgs& args, cudaStream_t stream) {
  return ForAnyElement("GatherRows", args.type, [&](auto type) {
    using T = decltype(type);
    return Launch("GatherRows", &GatherKernel<T>, {dim3(static_cast<unsigned int>(args.rows)), dim3(256)}, stream,
                  static_cast<const T*>(args.input), args.row_index, static_cast<T*>(args.output), args.columns);
  });
}

}  // namespace tandem::worker::cuda
