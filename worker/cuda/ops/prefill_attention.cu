// A block computes 64 rows of one KV head of one sequence: a row is one query head of one new token, and rows run over
// the heads of the group first, so that keys and values are read once for all of them. Each of its four warps has
// sixteen rows. Keys and values come in tiles of 64 tokens (32 where heads are larger than 128):
//
//   wait for the keys of tile n | begin the values of n | scores of n | wait for the values | begin the keys of n + 1 |
//   output += weights * values of n
//
// so that one of the two is always on its way while the other is used, with one buffer for each. Rows in shared memory
// are 16 bytes longer than the head, which puts eight of them into different banks for a load of matrices. Queries come
// through the buffer of the values while the first keys are on their way, and the output leaves through that of the
// keys: a warp has its own rows there, so that neither needs a barrier. (With tiles of 32 both need the whole room, and
// do.)
//
// A tile that a row does not see at all changes nothing of that row, to the bit; so what is computed for a row does not
// depend on the rows that share its block.
#include <algorithm>

#include "worker/cuda/launch.h"
#include "worker/cuda/ops/element.h"
#include "worker/cuda/ops/prefill_attention.h"
#include "worker/cuda/ops/ptx.h"
#include "worker/cuda/ops/reduce.h"
#include "worker/cuda/ops/shared.h"

namespace tandem::worker::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kWarpRows = 16;
constexpr int kRows = kWarpRows * kWarps;
constexpr float kLog2E = 1.4426950408889634f;
constexpr float kNothing = -INFINITY;

// What is the same for all threads of a block.
struct Place {
  int32_t first_token;  // of the sequence, in the step
  int32_t start;        // its position
  int32_t rows;         // of the sequence, all heads of the group
  int32_t first_row;    // of this block
  int32_t group;
};

template <int kDim>
struct Tile {
  static constexpr int kStride = kDim + 8;             // elements
  static constexpr int kKeys = kDim <= 128 ? 64 : 32;  // tokens; a head of 256 has no registers for the scores of more
  static constexpr int kElements = kKeys * kStride;
  // Whether the room of keys (or values) alone holds all rows of the block.
  static constexpr bool kHoldsRows = kKeys >= kRows;
  static_assert(2 * kKeys >= kRows);
};

// Begins to copy the keys (or values) of the tile into shared memory. Columns beyond the head, and tokens beyond the
// last, become zeros.
template <class T, int kDim>
__device__ __forceinline__ void BeginTile(const PrefillAttentionArgs& args, Shared<T> tile, const int32_t* table,
                                          int32_t kv_head, bool values, int32_t position, int32_t end) {
  constexpr int kChunks = kDim / 8;
  const int32_t padded = args.kv.padded();
  const T* const pool =
      static_cast<const T*>(args.kv.layer) + kv_head * args.kv.head_stride() + (values ? kKvBlockTokens * padded : 0);
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < Tile<kDim>::kKeys * kChunks; i += 32 * kWarps) {
    const int token = i / kChunks;
    const int column = i % kChunks * 8;
    const int32_t at = position + token;
    const bool there = at < end && column < padded;
    const T* from = pool;
    if (there)
      from += int64_t{table[at / kKvBlockTokens]} * args.kv.block_stride() + at % kKvBlockTokens * padded + column;
    CopyAsync16(tile + (token * Tile<kDim>::kStride + column), from, there);
  }
  CommitCopies();
}

// The queries of a warp's rows, from `first_row` on. Rows of queries are only as aligned as head_dim is, so they are
// copied by element where 16 bytes do not fit.
template <class T, int kDim>
__device__ __forceinline__ void StageQueries(const PrefillAttentionArgs& args, const Place& place, int32_t kv_head,
                                             int32_t first_row, Shared<T> stage) {
  const int32_t head_dim = args.kv.head_dim;
  const bool wide = head_dim % 8 == 0 && args.query_stride % 8 == 0;
  for (int i = static_cast<int>(threadIdx.x) % 32; i < kWarpRows * (kDim / 8); i += 32) {
    const int row = i / (kDim / 8);
    const int column = i % (kDim / 8) * 8;
    const int32_t at = first_row + row;
    uint4 bits = make_uint4(0, 0, 0, 0);
    if (at < place.rows) {
      const T* const from = static_cast<const T*>(args.queries) +
                            (place.first_token + at / place.group) * args.query_stride +
                            (kv_head * place.group + at % place.group) * head_dim + column;
      if (wide) {
        if (column < head_dim) bits = *reinterpret_cast<const uint4*>(from);
      } else {
        float x[8];
#pragma unroll
        for (int j = 0; j < 8; ++j) x[j] = column + j < head_dim ? ToFloat(from[j]) : 0.0f;
        bits = make_uint4(PackPair(x[0], x[1], T{}), PackPair(x[2], x[3], T{}), PackPair(x[4], x[5], T{}),
                          PackPair(x[6], x[7], T{}));
      }
    }
    SharedCast<uint4>(stage + (row * Tile<kDim>::kStride + column))[0] = bits;
  }
}

// The other way: from the warp's room to its rows.
template <class T, int kDim>
__device__ __forceinline__ void StoreOutput(const PrefillAttentionArgs& args, const Place& place, int32_t kv_head,
                                            int32_t first_row, Shared<T> stage) {
  const int32_t head_dim = args.kv.head_dim;
  const bool wide = head_dim % 8 == 0 && args.output_stride % 8 == 0;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x) % 32; i < kWarpRows * (kDim / 8); i += 32) {
    const int row = i / (kDim / 8);
    const int column = i % (kDim / 8) * 8;
    const int32_t at = first_row + row;
    if (at >= place.rows || column >= head_dim) continue;
    T* const to = static_cast<T*>(args.output) + (place.first_token + at / place.group) * args.output_stride +
                  (kv_head * place.group + at % place.group) * head_dim + column;
    const Shared<T> from = stage + (row * Tile<kDim>::kStride + column);
    if (wide) {
      const uint4 bits = SharedCast<const uint4>(from)[0];
      *reinterpret_cast<uint4*>(to) = bits;
    } else {
      for (int j = 0; j < 8 && column + j < head_dim; ++j) to[j] = from[j];
    }
  }
}

template <class T, int kDim>
__global__ void __launch_bounds__(32 * kWarps) PrefillKernel(PrefillAttentionArgs args) {
  constexpr int kStride = Tile<kDim>::kStride;
  constexpr int kKeys = Tile<kDim>::kKeys;
  constexpr bool kHoldsRows = Tile<kDim>::kHoldsRows;
  constexpr int kSteps = kDim / 16;  // of the product of queries and keys
  TANDEM_DYNAMIC_SHARED(T, shared);
  const Shared<T> keys = shared;
  const Shared<T> values = shared + Tile<kDim>::kElements;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int g = lane / 4;
  const int q = lane % 4;

  const int32_t sequence = static_cast<int32_t>(blockIdx.z);
  const int32_t kv_head = static_cast<int32_t>(blockIdx.y);
  const int32_t group = args.heads / args.kv.kv_heads;
  const int32_t first_token = args.token_begin[sequence];
  const int32_t tokens = min(args.token_begin[sequence + 1] - first_token, args.max_tokens);
  const Place place{first_token, args.start[sequence], tokens * group,
                    // Rows at the end see most; they begin first.
                    (static_cast<int32_t>(gridDim.x) - 1 - static_cast<int32_t>(blockIdx.x)) * kRows, group};
  if (place.first_row >= place.rows) return;
  const int32_t last_row = min(place.first_row + kRows, place.rows) - 1;
  const int32_t lowest = place.start + place.first_row / group;  // position of the first row
  // Positions that some row sees.
  const int32_t end = place.start + (args.both_ways ? tokens : last_row / group + 1);
  const int32_t first_seen = args.window > 0 ? max(0, lowest - args.window + 1) : 0;
  const int32_t begin = first_seen / kKeys * kKeys;
  const int32_t* const table = args.block_tables + sequence * args.table_stride;

  if constexpr (kHoldsRows) BeginTile<T, kDim>(args, keys, table, kv_head, false, begin, end);
  const int32_t first_row = place.first_row + warp * kWarpRows;
  const Shared<T> queries = (kHoldsRows ? values : shared) + warp * kWarpRows * kStride;
  StageQueries<T, kDim>(args, place, kv_head, first_row, queries);
  __syncwarp();
  uint32_t query[kSteps][4];
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    LoadMatrices(query[s], queries + (lane % 16 * kStride + s * 16 + lane / 16 * 8));
  }

  if constexpr (!kHoldsRows) {
    __syncthreads();
    BeginTile<T, kDim>(args, keys, table, kv_head, false, begin, end);
  }

  float output[kDim / 8][4] = {};
  float top[2] = {kNothing, kNothing};
  float total[2] = {};
  int32_t position[2];  // of this lane's rows
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    position[r] = args.both_ways ? end - 1 : place.start + (first_row + g + 8 * r) / group;
  }
  const float scale = args.scale * kLog2E;

#pragma unroll 1
  for (int32_t tile = begin; tile < end; tile += kKeys) {
    AwaitCopies<0>();
    __syncthreads();  // Keys are here, and nobody reads the values of the tile before, or queries.
    BeginTile<T, kDim>(args, values, table, kv_head, true, tile, end);

    float score[kKeys / 8][4] = {};
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
#pragma unroll
      for (int n = 0; n < kKeys / 16; ++n) {
        // Matrices: tokens 16n.. of the first eight columns and of the second, then tokens 16n + 8.. of both.
        uint32_t key[4];
        LoadMatrices(key, keys + ((n * 16 + lane / 16 * 8 + lane % 8) * kStride + s * 16 + lane / 8 % 2 * 8));
        const uint32_t first[2] = {key[0], key[1]};
        const uint32_t second[2] = {key[2], key[3]};
        MultiplyAdd(score[2 * n], query[s], first, T{});
        MultiplyAdd(score[2 * n + 1], query[s], second, T{});
      }
    }

    // Only the tiles at the ends of a range hold tokens that some row of the block does not see.
    const bool whole =
        tile + kKeys <= (args.both_ways ? end : lowest + 1) && (args.window <= 0 || tile > end - 1 - args.window);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float most = kNothing;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float x = score[n][2 * r + i] * scale;
          if (!whole) {
            const int32_t token = tile + n * 8 + 2 * q + i;
            if (token > position[r] || (args.window > 0 && token <= position[r] - args.window)) x = kNothing;
          }
          score[n][2 * r + i] = x;
          most = fmaxf(most, x);
        }
      }
      most = fmaxf(most, __shfl_xor_sync(kWholeWarp, most, 1));
      most = fmaxf(most, __shfl_xor_sync(kWholeWarp, most, 2));
      most = fmaxf(most, top[r]);
      // A row that has seen nothing yet has no largest score; any number serves.
      const float shift = most == kNothing ? 0.0f : most;
      const float old = exp2f(top[r] - shift);
      float sum = 0;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const float weight = exp2f(score[n][2 * r + i] - shift);
          score[n][2 * r + i] = weight;
          sum += weight;
        }
      }
      top[r] = most;
      total[r] = total[r] * old + sum;
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n) {
        output[n][2 * r] *= old;
        output[n][2 * r + 1] *= old;
      }
    }

    AwaitCopies<0>();
    __syncthreads();  // Values are here, and nobody reads the keys of this tile any more.
    if (tile + kKeys < end) BeginTile<T, kDim>(args, keys, table, kv_head, false, tile + kKeys, end);

#pragma unroll
    for (int n = 0; n < kKeys / 16; ++n) {
      // Where the scores were left is where the product wants its weights.
      const uint32_t weights[4] = {PackPair(score[2 * n][0], score[2 * n][1], T{}),
                                   PackPair(score[2 * n][2], score[2 * n][3], T{}),
                                   PackPair(score[2 * n + 1][0], score[2 * n + 1][1], T{}),
                                   PackPair(score[2 * n + 1][2], score[2 * n + 1][3], T{})};
#pragma unroll
      for (int d = 0; d < kDim / 16; ++d) {
        uint32_t value[4];
        LoadMatricesTransposed(value, values + ((n * 16 + lane % 16) * kStride + d * 16 + lane / 16 * 8));
        const uint32_t first[2] = {value[0], value[1]};
        const uint32_t second[2] = {value[2], value[3]};
        MultiplyAdd(output[2 * d], weights, first, T{});
        MultiplyAdd(output[2 * d + 1], weights, second, T{});
      }
    }
  }

  // Nobody has read keys since the last barrier; values somebody may still read.
  if constexpr (!kHoldsRows) __syncthreads();
  const Shared<T> stage = shared + warp * kWarpRows * kStride;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float sum = total[r];
    sum += __shfl_xor_sync(kWholeWarp, sum, 1);
    sum += __shfl_xor_sync(kWholeWarp, sum, 2);
    const float factor = 1.0f / sum;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
      SharedCast<uint32_t>(stage + ((g + 8 * r) * kStride + n * 8 + 2 * q))[0] =
          PackPair(output[n][2 * r] * factor, output[n][2 * r + 1] * factor, T{});
    }
  }
  __syncwarp();
  StoreOutput<T, kDim>(args, place, kv_head, first_row, stage);
}

template <class T, int kDim>
absl::Status Start(const PrefillAttentionArgs& args, cudaStream_t stream) {
  const int64_t rows = int64_t{args.max_tokens} * (args.heads / args.kv.kv_heads);
  return Launch("PrefillAttention", &PrefillKernel<T, kDim>,
                {dim3(BlocksFor(rows, kRows), static_cast<unsigned int>(args.kv.kv_heads),
                      static_cast<unsigned int>(args.sequences)),
                 dim3(32 * kWarps), 2 * Tile<kDim>::kElements * sizeof(T)},
                stream, args);
}

}  // namespace

absl::Status PrefillAttention(const PrefillAttentionArgs& args, cudaStream_t stream) {
  return ForSixteenBits("PrefillAttention", args.kv.type, [&](auto type) {
    using T = decltype(type);
    const int32_t padded = args.kv.padded();
    if (padded <= 32) return Start<T, 32>(args, stream);
    if (padded <= 64) return Start<T, 64>(args, stream);
    if (padded <= 96) return Start<T, 96>(args, stream);
    if (padded <= 128) return Start<T, 128>(args, stream);
    if (padded <= kMaxHeadDim) return Start<T, 256>(args, stream);
    return absl::Status(absl::InvalidArgumentError(
        absl::StrCat("PrefillAttention has no kernel for heads of ", args.kv.head_dim, ", only up to ", kMaxHeadDim)));
  });
}

}  // namespace tandem::worker::cuda
