#include "worker/cuda/launch.h"
#include "worker/cuda/ops/element.h"
#include "worker/cuda/ops/gather.h"

namespace tandem::worker::cuda {
namespace {

// One block for a row. T is as wide as rows and addresses allow; what is in it does not matter.
template <class T>
__global__ void GatherKernel(const T* input, const int32_t* row_index, T* output, int64_t columns) {
  const int64_t row = blockIdx.x;
  const int64_t source = row_index[row];
  for (int64_t i = threadIdx.x; i < columns; i += blockDim.x) {
    T value = {};
    if (source >= 0) value = input[source * columns + i];
    output[row * columns + i] = value;
  }
}

template <class T>
absl::Status Start(const GatherArgs& args, int64_t row_bytes, cudaStream_t stream) {
  return Launch("GatherRows", &GatherKernel<T>, {dim3(static_cast<unsigned int>(args.rows)), dim3(256)}, stream,
                static_cast<const T*>(args.input), args.row_index, static_cast<T*>(args.output),
                row_bytes / static_cast<int64_t>(sizeof(T)));
}

}  // namespace

absl::Status GatherRows(const GatherArgs& args, cudaStream_t stream) {
  const int64_t row_bytes = args.columns * model::BytesOf(args.type);
  if (row_bytes % 16 == 0 && AlignedTo(args.input, 16) && AlignedTo(args.output, 16)) {
    return Start<uint4>(args, row_bytes, stream);
  }
  return args.type == model::DType::kFloat32 ? Start<uint32_t>(args, row_bytes, stream)
                                             : Start<uint16_t>(args, row_bytes, stream);
}

}  // namespace tandem::worker::cuda
