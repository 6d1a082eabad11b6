#include "worker/cuda/launch.h"
#include "worker/cuda/ops/element.h"
#include "worker/cuda/ops/norm.h"
#include "worker/cuda/ops/reduce.h"
#include "worker/cuda/ops/shared.h"

namespace tandem::worker::cuda {
namespace {

struct NormKernelArgs {
  float* residual;
  const void* delta;
  const float* weight;
  const float* bias;
  const int32_t* row_index;
  void* output;
  int32_t hidden;
  float epsilon;
  bool normed_residual;
};

// A thread takes kWide neighbouring elements at a time, and waits in shared memory with those it has read: nobody else
// looks at them, so they need no barrier.
template <model::Norm kNorm, class Delta, class T, int kWide>
__global__ void __launch_bounds__(1024) AddNormKernel(NormKernelArgs args) {
  TANDEM_SHARED(float, first_sums, 32);
  TANDEM_SHARED(float, second_sums, 32);
  TANDEM_DYNAMIC_SHARED(float, row);
  const int64_t hidden = args.hidden;
  const int64_t out_row = blockIdx.x;
  const int64_t source = args.row_index != nullptr ? args.row_index[out_row] : out_row;
  float* const residual = args.residual + source * hidden;
  const Delta* const delta = args.delta != nullptr ? static_cast<const Delta*>(args.delta) + source * hidden : nullptr;
  const int begin = static_cast<int>(threadIdx.x) * kWide;
  const int step = static_cast<int>(blockDim.x) * kWide;

  float sum = 0;
  for (int i = begin; i < hidden; i += step) {
    if constexpr (kWide == 4) {
      float4 x = LoadFour(residual + i);
      if (delta != nullptr) {
        const float4 more = LoadFour(delta + i);
        x = make_float4(x.x + more.x, x.y + more.y, x.z + more.z, x.w + more.w);
        StoreFour(residual + i, x);
      }
      SharedCast<float4>(row)[i / 4] = x;
      sum += kNorm == model::Norm::kRms ? x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w : x.x + x.y + x.z + x.w;
    } else {
      float x = residual[i];
      if (delta != nullptr) residual[i] = x += ToFloat(delta[i]);
      row[i] = x;
      sum += kNorm == model::Norm::kRms ? x * x : x;
    }
  }
  if (args.output == nullptr) return;
  sum = BlockSum(sum, first_sums);

  float mean = 0;
  float scale;
  if constexpr (kNorm == model::Norm::kRms) {
    scale = 1.0f / sqrtf(sum / static_cast<float>(hidden) + args.epsilon);
  } else {
    mean = sum / static_cast<float>(hidden);
    float square = 0;
    for (int i = begin; i < hidden; i += step) {
      if constexpr (kWide == 4) {
        const float4 x = SharedCast<const float4>(row)[i / 4];
        square += (x.x - mean) * (x.x - mean);
        square += (x.y - mean) * (x.y - mean);
        square += (x.z - mean) * (x.z - mean);
        square += (x.w - mean) * (x.w - mean);
      } else {
        const float centred = row[i] - mean;
        square += centred * centred;
      }
    }
    scale = 1.0f / sqrtf(BlockSum(square, second_sums) / static_cast<float>(hidden) + args.epsilon);
  }

  T* const output = static_cast<T*>(args.output) + out_row * hidden;
  for (int i = begin; i < hidden; i += step) {
    if constexpr (kWide == 4) {
      const float4 x = SharedCast<const float4>(row)[i / 4];
      const float4 w = LoadFour(args.weight + i);
      float4 y = make_float4((x.x - mean) * scale * w.x, (x.y - mean) * scale * w.y, (x.z - mean) * scale * w.z,
                             (x.w - mean) * scale * w.w);
      if (kNorm == model::Norm::kLayer && args.bias != nullptr) {
        const float4 b = LoadFour(args.bias + i);
        y = make_float4(y.x + b.x, y.y + b.y, y.z + b.z, y.w + b.w);
      }
      StoreFour(output + i, y);
      if (args.normed_residual) StoreFour(residual + i, y);
    } else {
      float y = (row[i] - mean) * scale * args.weight[i];
      if (kNorm == model::Norm::kLayer && args.bias != nullptr) y += args.bias[i];
      output[i] = FromFloat<T>(y);
      if (args.normed_residual) residual[i] = y;
    }
  }
}

template <model::Norm kNorm, class Delta, class T>
absl::Status Start(const NormArgs& args, cudaStream_t stream) {
  const bool wide = args.hidden % 4 == 0 && AlignedTo(args.weight, 16) && AlignedTo(args.bias, 16);
  const int64_t steps = wide ? args.hidden / 4 : args.hidden;
  const unsigned int threads = static_cast<unsigned int>(steps >= 1024 ? 1024 : (steps + 31) / 32 * 32);
  const LaunchShape shape{dim3(static_cast<unsigned int>(args.rows)), dim3(threads),
                          static_cast<size_t>(args.hidden) * sizeof(float)};
  const NormKernelArgs kernel_args{args.residual, args.delta,  args.weight,  args.bias,           args.row_index,
                                   args.output,   args.hidden, args.epsilon, args.normed_residual};
  return wide ? Launch("AddNorm", &AddNormKernel<kNorm, Delta, T, 4>, shape, stream, kernel_args)
              : Launch("AddNorm", &AddNormKernel<kNorm, Delta, T, 1>, shape, stream, kernel_args);
}

}  // namespace

absl::Status AddNorm(const NormArgs& args, cudaStream_t stream) {
  return ForAnyElement("AddNorm", args.type, [&](auto type) {
    using T = decltype(type);
    return ForAnyElement("AddNorm", args.delta_type, [&](auto delta_type) {
      using Delta = decltype(delta_type);
      return args.norm == model::Norm::kRms ? Start<model::Norm::kRms, Delta, T>(args, stream)
                                            : Start<model::Norm::kLayer, Delta, T>(args, stream);
    });
  });
}

}  // namespace tandem::worker::cuda
