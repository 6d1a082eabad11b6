#include "worker/cuda/launch.h"
#include "worker/cuda/ops/element.h"
#include "worker/cuda/ops/embedding.h"

namespace tandem::worker::cuda {
namespace {

// One block for a token; a thread takes kWide neighbouring elements at a time.
template <class T, int kWide>
__global__ void EmbeddingKernel(EmbeddingArgs args) {
  const int64_t row = blockIdx.x;
  const int64_t hidden = args.hidden;
  const int32_t token = args.tokens[row];
  const int64_t column = int64_t{token} - args.first_token;
  const bool here = token >= 0 && column >= 0 && column < args.rows;
  const T* const from = static_cast<const T*>(args.table) + (here ? column : 0) * hidden;
  const float* const position = args.learned_positions != nullptr && token >= 0
                                    ? args.learned_positions + int64_t{args.positions[row]} * hidden
                                    : nullptr;
  const float* const segment =
      args.segment_table != nullptr && token >= 0 ? args.segment_table + int64_t{args.segments[row]} * hidden : nullptr;
  float* const to = args.residual + row * hidden;
  for (int64_t i = static_cast<int64_t>(threadIdx.x) * kWide; i < hidden;
       i += static_cast<int64_t>(blockDim.x) * kWide) {
    if constexpr (kWide == 4) {
      float4 x = here ? LoadFour(from + i) : make_float4(0, 0, 0, 0);
      if (position != nullptr) {
        const float4 p = LoadFour(position + i);
        x = make_float4(x.x + p.x, x.y + p.y, x.z + p.z, x.w + p.w);
      }
      if (segment != nullptr) {
        const float4 s = LoadFour(segment + i);
        x = make_float4(x.x + s.x, x.y + s.y, x.z + s.z, x.w + s.w);
      }
      StoreFour(to + i, x);
    } else {
      to[i] = (here ? ToFloat(from[i]) : 0.0f) + (position != nullptr ? position[i] : 0.0f) +
              (segment != nullptr ? segment[i] : 0.0f);
    }
  }
}

}  // namespace

absl::Status Embed(const EmbeddingArgs& args, cudaStream_t stream) {
  return ForSixteenBits("Embed", args.type, [&](auto type) {
    using T = decltype(type);
    const LaunchShape shape{dim3(static_cast<unsigned int>(args.count)), dim3(128)};
    const bool wide = args.hidden % 4 == 0 && AlignedTo(args.table, 8) && AlignedTo(args.residual, 16) &&
                      AlignedTo(args.learned_positions, 16) && AlignedTo(args.segment_table, 16);
    return wide ? Launch("Embed", &EmbeddingKernel<T, 4>, shape, stream, args)
                : Launch("Embed", &EmbeddingKernel<T, 1>, shape, stream, args);
  });
}

}  // namespace tandem::worker::cuda
