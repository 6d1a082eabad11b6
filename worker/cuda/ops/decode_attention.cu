// A block computes one partition of one sequence's context for all query heads of one KV head; a warp of it takes every
// kWarps-th block of sixteen tokens. Keys and values go from memory straight into registers, in loads of 16 bytes that
// suit the tensor core's layout, because both products may permute the index that they sum over:
//
//  - Scores: query heads (up to sixteen, padded with zeros) times keys. Lane (g, q) reads eight neighbouring elements
//  of
//    the key of token g, and the same eight of the query of head g: four for each of two products.
//  - Output: weights times values. The weights are where the scores were left: lane (g, q) has those of the tokens 2q,
//    2q + 1, 2q + 8 and 2q + 9 for the heads g and g + 8. It reads eight neighbouring elements, from 8 g on, of the
//    values of just these tokens; element j of all lanes makes column g of the product's tile j.
//
// So the loads of a block of tokens are in flight together, and a warp needs neither shared memory nor barriers until
// the warps of a partition are put together. Softmax is kept in float32, in powers of two.
//
// A head of 256 has no registers for all of that: there the queries, which all warps have alike, are read from shared
// memory each time, and the values are fetched when the scores are there.
#include <algorithm>

#include "worker/cuda/launch.h"
#include "worker/cuda/ops/decode_attention.h"
#include "worker/cuda/ops/element.h"
#include "worker/cuda/ops/prefill_attention.h"
#include "worker/cuda/ops/ptx.h"
#include "worker/cuda/ops/reduce.h"
#include "worker/cuda/ops/shared.h"

namespace tandem::worker::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kHeadTile = 16;  // query heads of one pass
constexpr int kTile = kKvBlockTokens;
constexpr int32_t kLeastPartition = 256;  // tokens
constexpr int32_t kMostPartitions = 64;
constexpr float kLog2E = 1.4426950408889634f;
constexpr float kNothing = -INFINITY;

int32_t Partitions(int32_t max_context) {
  const int32_t tokens = DecodePartitionTokens(max_context);
  return std::max(1, (max_context + tokens - 1) / tokens);
}

struct DecodeKernelArgs {
  DecodeAttentionArgs in;
  int32_t group;  // query heads of a KV head
  int32_t partition_tokens;
  int32_t partitions;  // room for in the workspace
  float scale;         // of scores, in powers of two
};

// A partition's result for one head: the output so far, unnormalised, of `padded` floats; and the largest score with
// the sum of weights, behind all outputs, which start at a sector each so.
struct Partial {
  float* output;
  float2* top_and_total;
};
__device__ __forceinline__ Partial PartialOf(const DecodeKernelArgs& args, int32_t sequence, int32_t head,
                                             int32_t partition) {
  const int64_t all = int64_t{args.in.sequences} * args.in.heads * args.partitions;
  const int64_t index = (int64_t{sequence} * args.in.heads + head) * args.partitions + partition;
  float* const outputs = args.in.workspace;
  const int64_t padded = args.in.kv.padded();
  return {outputs + index * padded, reinterpret_cast<float2*>(outputs + all * padded) + index};
}

// Eight elements from `from` on, zeros where there is nothing.
template <class T>
__device__ __forceinline__ uint4 LoadEight(bool there, const T* from) {
  uint4 value = make_uint4(0, 0, 0, 0);
  if (there) value = *reinterpret_cast<const uint4*>(from);
  return value;
}

// The query of a head, eight elements from `from` on. Rows of queries are only as aligned as head_dim is.
template <class T>
__device__ __forceinline__ uint4 LoadQuery(const T* row, int from, int head_dim) {
  if (head_dim % 8 == 0) return LoadEight(from < head_dim, row + from);
  float x[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = from + i < head_dim ? ToFloat(row[from + i]) : 0.0f;
  return make_uint4(PackPair(x[0], x[1], T{}), PackPair(x[2], x[3], T{}), PackPair(x[4], x[5], T{}),
                    PackPair(x[6], x[7], T{}));
}

__device__ __forceinline__ uint32_t Element(const uint4& value, int pair) {
  return pair == 0 ? value.x : pair == 1 ? value.y : pair == 2 ? value.z : value.w;
}

// One warp's part of a partition: running softmax and output of sixteen heads, of which lane (g, q) has two.
template <class T, int kDim>
struct Part {
  static constexpr int kKeySteps = kDim / 32;           // loads of a lane along a key
  static constexpr int kValueSteps = (kDim + 63) / 64;  // and along the values
  static constexpr bool kSparing = kDim > 128;          // of registers
  // A head's output of one warp in shared memory: as in the registers, and 8 more, so that the heads of half a warp's
  // stores are in different banks.
  static constexpr int kStride = kValueSteps * 64 + 8;
  float output[kValueSteps * 8][4] = {};  // tile s * 8 + j: columns 64 s + 8 g' + j of heads g and g + 8
  float top[2] = {kNothing, kNothing};
  float total[2] = {};

  // Where lane (g, q) puts the columns of tile t that it has, of which the first is 64 (t / 8) + 16 q + t % 8. Every
  // other group of four tiles is turned by four, for those who read columns one after the other.
  __device__ __forceinline__ static int PlaceOf(int tile, int q) { return tile * 8 + (2 * q + tile / 4 % 2 * 4) % 8; }
  __device__ __forceinline__ static int PlaceOfColumn(int column) {
    const int tile = column / 64 * 8 + column % 8;
    return PlaceOf(tile, column / 16 % 4) + column / 8 % 2;
  }

  __device__ __forceinline__ void LoadValues(uint4 (&value)[kValueSteps][4], const T* values, int32_t padded, int from,
                                             int to) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int s = 0; s < kValueSteps; ++s) {
      const int column = s * 64 + lane / 4 * 8;
#pragma unroll
      for (int t = 0; t < 4; ++t) {
        const int token = 2 * (lane % 4) + t % 2 + t / 2 * 8;
        // Not even weighed with zero: a place that no token of the sequence has may hold no number.
        const bool counts = token >= from && token < to;
        value[s][t] = LoadEight(counts && column < padded, values + token * padded + column);
      }
    }
  }

  // Takes in the sixteen tokens at `keys`, of which those in [from, to) count. `query(s, row)` gives the queries.
  template <class Query>
  __device__ __forceinline__ void Take(const T* keys, int32_t padded, int from, int to, float scale,
                                       const Query& query) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int g = lane / 4;
    const int q = lane % 4;
    uint4 key[kKeySteps][2];
#pragma unroll
    for (int s = 0; s < kKeySteps; ++s) {
      const int column = s * 32 + q * 8;
      key[s][0] = LoadEight(column < padded, keys + g * padded + column);
      key[s][1] = LoadEight(column < padded, keys + (g + 8) * padded + column);
    }
    const T* const values = keys + kTile * padded;
    uint4 value[kValueSteps][4];
    if constexpr (!kSparing) LoadValues(value, values, padded, from, to);

    float score[2][4] = {};  // of the tokens 0..7 and 8..15
#pragma unroll
    for (int s = 0; s < kKeySteps; ++s) {
      const uint4 low = query(s, 0);
      const uint4 high = query(s, 1);
      const uint32_t first[4] = {low.x, high.x, low.y, high.y};
      const uint32_t second[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint32_t first_key[2] = {key[s][half].x, key[s][half].y};
        MultiplyAdd(score[half], first, first_key, T{});
        const uint32_t second_key[2] = {key[s][half].z, key[s][half].w};
        MultiplyAdd(score[half], second, second_key, T{});
      }
    }

    if constexpr (kSparing) LoadValues(value, values, padded, from, to);
    uint32_t weights[4];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      float x[4];  // tokens 2q, 2q + 1, 2q + 8, 2q + 9
#pragma unroll
      for (int t = 0; t < 4; ++t) {
        const int token = 2 * q + t % 2 + t / 2 * 8;
        x[t] = token >= from && token < to ? score[t / 2][2 * row + t % 2] * scale : kNothing;
      }
      float most = fmaxf(fmaxf(x[0], x[1]), fmaxf(x[2], x[3]));
      most = fmaxf(most, __shfl_xor_sync(kWholeWarp, most, 1));
      most = fmaxf(most, __shfl_xor_sync(kWholeWarp, most, 2));
      most = fmaxf(most, top[row]);  // Some token counts, so this is a number.
      const float old = exp2f(top[row] - most);
      float sum = 0;
#pragma unroll
      for (int t = 0; t < 4; ++t) {
        x[t] = exp2f(x[t] - most);
        sum += x[t];
      }
      top[row] = most;
      total[row] = total[row] * old + sum;
#pragma unroll
      for (int tile = 0; tile < kValueSteps * 8; ++tile) {
        output[tile][2 * row] *= old;
        output[tile][2 * row + 1] *= old;
      }
      weights[row] = PackPair(x[0], x[1], T{});
      weights[row + 2] = PackPair(x[2], x[3], T{});
    }

#pragma unroll
    for (int s = 0; s < kValueSteps; ++s) {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        // Element j of the four tokens, the first two in one register and the others in another.
        const unsigned int halves = j % 2 == 0 ? 0x5410u : 0x7632u;
        const uint32_t pair[2] = {__byte_perm(Element(value[s][0], j / 2), Element(value[s][1], j / 2), halves),
                                  __byte_perm(Element(value[s][2], j / 2), Element(value[s][3], j / 2), halves)};
        MultiplyAdd(output[s * 8 + j], weights, pair, T{});
      }
    }
  }
};

// Puts the warps of a block together, in their order, and leaves the result in the workspace, or in the output where
// this partition is the only one.
template <class T, int kDim>
__device__ void Finish(const DecodeKernelArgs& args, Part<T, kDim>& part, Shared<float> outputs, Shared<float> tops,
                       Shared<float> totals, int32_t sequence, int32_t first_head, int32_t heads, int32_t partition,
                       bool only) {
  constexpr int kStride = Part<T, kDim>::kStride;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int g = lane / 4;
  const int q = lane % 4;
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const int head = g + 8 * row;
    float sum = part.total[row];
    sum += __shfl_xor_sync(kWholeWarp, sum, 1);
    sum += __shfl_xor_sync(kWholeWarp, sum, 2);
    if (head >= heads) continue;
    if (q == 0) {
      tops[warp * kHeadTile + head] = part.top[row];
      totals[warp * kHeadTile + head] = sum;
    }
    const Shared<float> to = outputs + (warp * heads + head) * kStride;
#pragma unroll
    for (int tile = 0; tile < Part<T, kDim>::kValueSteps * 8; ++tile) {
      SharedCast<float2>(to + Part<T, kDim>::PlaceOf(tile, q))[0] =
          make_float2(part.output[tile][2 * row], part.output[tile][2 * row + 1]);
    }
  }
  __syncthreads();
  const int32_t head_dim = args.in.kv.head_dim;
  for (int i = static_cast<int>(threadIdx.x); i < heads * kDim; i += 32 * kWarps) {
    const int head = i / kDim;
    const int column = i % kDim;
    if (column >= head_dim) continue;
    float most = kNothing;
    for (int w = 0; w < kWarps; ++w) most = fmaxf(most, tops[w * kHeadTile + head]);
    float total = 0;
    float x = 0;
    const int place = Part<T, kDim>::PlaceOfColumn(column);
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float top = tops[w * kHeadTile + head];
      const float factor = top == kNothing ? 0.0f : exp2f(top - most);
      total += totals[w * kHeadTile + head] * factor;
      x += outputs[(w * heads + head) * kStride + place] * factor;
    }
    if (only) {
      T* const to = static_cast<T*>(args.in.output) + sequence * args.in.output_stride;
      to[(first_head + head) * head_dim + column] = FromFloat<T>(x / total);
      continue;
    }
    const Partial to = PartialOf(args, sequence, first_head + head, partition);
    to.output[column] = x;
    if (column == 0) *to.top_and_total = make_float2(most, total);
  }
}

// Blocks: (tiles of heads of all KV heads, sequences, partitions taken in turns).
template <class T, int kDim>
__global__ void __launch_bounds__(32 * kWarps) DecodeKernel(DecodeKernelArgs args) {
  TANDEM_DYNAMIC_SHARED(float, outputs);  // [warps][heads][Part::kStride]
  TANDEM_SHARED(float, tops, kWarps* kHeadTile);
  TANDEM_SHARED(float, totals, kWarps* kHeadTile);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int32_t tiles = (args.group + kHeadTile - 1) / kHeadTile;
  const int32_t kv_head = static_cast<int32_t>(blockIdx.x) / tiles;
  const int32_t first_in_group = static_cast<int32_t>(blockIdx.x) % tiles * kHeadTile;
  const int32_t heads = args.group - first_in_group < kHeadTile ? args.group - first_in_group : kHeadTile;
  const int32_t first_head = kv_head * args.group + first_in_group;
  const int32_t sequence = static_cast<int32_t>(blockIdx.y);
  const int32_t head_dim = args.in.kv.head_dim;
  const int32_t padded = args.in.kv.padded();

  const int32_t context = args.in.contexts[sequence];
  if (context <= 0) {
    if (blockIdx.z != 0) return;
    T* const to = static_cast<T*>(args.in.output) + sequence * args.in.output_stride + int64_t{first_head} * head_dim;
    for (int i = static_cast<int>(threadIdx.x); i < heads * head_dim; i += 32 * kWarps) to[i] = FromFloat<T>(0.0f);
    return;
  }
  const int32_t first_token = args.in.window > 0 && context > args.in.window ? context - args.in.window : 0;
  const int32_t first_partition = first_token / args.partition_tokens;
  const int32_t last_partition = (context - 1) / args.partition_tokens;
  if (first_partition + static_cast<int32_t>(blockIdx.z) > last_partition) return;

  const T* const queries =
      static_cast<const T*>(args.in.queries) + sequence * args.in.query_stride + int64_t{first_head} * head_dim;
  const auto load_query = [&](int s, int row) {
    const int head = lane / 4 + 8 * row;
    uint4 eight = make_uint4(0, 0, 0, 0);
    if (head < heads) eight = LoadQuery(queries + head * head_dim, s * 32 + lane % 4 * 8, head_dim);
    return eight;
  };
  constexpr int kKeySteps = Part<T, kDim>::kKeySteps;
  constexpr bool kSparing = Part<T, kDim>::kSparing;
  TANDEM_SHARED(uint4, shared_query, kSparing ? kKeySteps * 2 * 32 : 1);
  uint4 query[kSparing ? 1 : kKeySteps][2];
  if constexpr (kSparing) {
    for (int i = warp; i < kKeySteps * 2; i += kWarps) shared_query[i * 32 + lane] = load_query(i / 2, i % 2);
    __syncthreads();
  } else {
#pragma unroll
    for (int s = 0; s < kKeySteps; ++s) {
#pragma unroll
      for (int row = 0; row < 2; ++row) query[s][row] = load_query(s, row);
    }
  }
  const auto query_of = [&](int s, int row) -> uint4 {
    if constexpr (kSparing) {
      return shared_query[(s * 2 + row) * 32 + lane];
    } else {
      return query[s][row];
    }
  };

  const T* const pool = static_cast<const T*>(args.in.kv.layer) + kv_head * args.in.kv.head_stride();
  const int32_t* const table = args.in.block_tables + sequence * args.in.table_stride;
  for (int32_t partition = first_partition + static_cast<int32_t>(blockIdx.z); partition <= last_partition;
       partition += static_cast<int32_t>(gridDim.z)) {
    const int32_t begin = partition * args.partition_tokens;
    const int32_t end = begin + args.partition_tokens < context ? begin + args.partition_tokens : context;
    Part<T, kDim> part;
    // Warps take the blocks in turns from the partition's beginning, whatever the window cuts off.
    for (int32_t token = begin + warp * kTile; token < end; token += kWarps * kTile) {
      if (token + kTile <= first_token) continue;
      const T* const keys = pool + int64_t{table[token / kTile]} * args.in.kv.block_stride();
      part.Take(keys, padded, first_token - token, end - token, args.scale, query_of);
    }
    if (partition != first_partition + static_cast<int32_t>(blockIdx.z)) __syncthreads();  // All have read the last.
    Finish(args, part, outputs, tops, totals, sequence, first_head, heads, partition,
           first_partition == last_partition);
  }
}

// One block for a head of a sequence: partitions in their order.
template <class T>
__global__ void CombineKernel(DecodeKernelArgs args) {
  const int32_t head = static_cast<int32_t>(blockIdx.x);
  const int32_t sequence = static_cast<int32_t>(blockIdx.y);
  const int32_t context = args.in.contexts[sequence];
  const int32_t first_token = args.in.window > 0 && context > args.in.window ? context - args.in.window : 0;
  const int32_t first = first_token / args.partition_tokens;
  const int32_t last = (context - 1) / args.partition_tokens;
  if (context <= 0 || first == last) return;
  const int32_t head_dim = args.in.kv.head_dim;
  const int32_t padded = args.in.kv.padded();
  const float2* const weighed = PartialOf(args, sequence, head, 0).top_and_total;
  float most = kNothing;
  for (int32_t p = first; p <= last; ++p) most = fmaxf(most, weighed[p].x);
  float total = 0;
  for (int32_t p = first; p <= last; ++p) {
    const float2 one = weighed[p];
    total += one.y * exp2f(one.x - most);
  }
  const float* const outputs = PartialOf(args, sequence, head, 0).output;
  T* const to = static_cast<T*>(args.in.output) + sequence * args.in.output_stride + int64_t{head} * head_dim;
  for (int32_t column = static_cast<int32_t>(threadIdx.x); column < head_dim;
       column += static_cast<int32_t>(blockDim.x)) {
    float sum = 0;
    for (int32_t p = first; p <= last; ++p) sum += outputs[p * padded + column] * exp2f(weighed[p].x - most);
    to[column] = FromFloat<T>(sum / total);
  }
}

// Enough blocks to fill every device there is; more partitions than that are taken in turns.
constexpr int32_t kBlocksWanted = 1024;

template <class T, int kDim>
absl::Status Start(const DecodeKernelArgs& args, cudaStream_t stream) {
  const int32_t tiles = (args.group + kHeadTile - 1) / kHeadTile;
  const int32_t columns = args.in.kv.kv_heads * tiles;
  const int32_t per_partition = std::max(1, columns * args.in.sequences);
  const int32_t turns = std::clamp(kBlocksWanted / per_partition, 1, args.partitions);
  const int32_t heads = std::min(args.group, kHeadTile);
  const absl::Status started =
      Launch("DecodeAttention", &DecodeKernel<T, kDim>,
             {dim3(static_cast<unsigned int>(columns), static_cast<unsigned int>(args.in.sequences),
                   static_cast<unsigned int>(turns)),
              dim3(32 * kWarps), static_cast<size_t>(kWarps * heads * Part<T, kDim>::kStride) * sizeof(float)},
             stream, args);
  if (!started.ok() || args.partitions == 1) return started;
  return Launch("DecodeCombine", &CombineKernel<T>,
                {dim3(static_cast<unsigned int>(args.in.heads), static_cast<unsigned int>(args.in.sequences)),
                 dim3(kDim <= 64 ? 64 : 128)},
                stream, args);
}

}  // namespace

// A multiple of the 64 that the warps of a block take together.
int32_t DecodePartitionTokens(int32_t max_context) {
  const int32_t needed = (max_context + kMostPartitions - 1) / kMostPartitions;
  return std::max(kLeastPartition, (needed + 63) / 64 * 64);
}

int64_t DecodeWorkspaceBytes(int32_t sequences, int32_t heads, int32_t head_dim, int32_t max_context) {
  const int64_t partial = (head_dim + 15) / 16 * 16 + 2;
  return int64_t{sequences} * heads * Partitions(max_context) * partial * static_cast<int64_t>(sizeof(float));
}

absl::Status DecodeAttention(const DecodeAttentionArgs& args, cudaStream_t stream) {
  const DecodeKernelArgs kernel_args{args, args.heads / std::max(1, args.kv.kv_heads),
                                     DecodePartitionTokens(args.max_context), Partitions(args.max_context),
                                     args.scale * kLog2E};
  return ForSixteenBits("DecodeAttention", args.kv.type, [&](auto type) {
    using T = decltype(type);
    const int32_t padded = args.kv.padded();
    if (padded <= 32) return Start<T, 32>(kernel_args, stream);
    if (padded <= 64) return Start<T, 64>(kernel_args, stream);
    if (padded <= 96) return Start<T, 96>(kernel_args, stream);
    if (padded <= 128) return Start<T, 128>(kernel_args, stream);
    if (padded <= kMaxHeadDim) return Start<T, 256>(kernel_args, stream);
    return absl::Status(absl::InvalidArgumentError(
        absl::StrCat("DecodeAttention has no kernel for heads of ", args.kv.head_dim, ", only up to ", kMaxHeadDim)));
  });
}

}  // namespace tandem::worker::cuda
