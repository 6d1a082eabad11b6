#include <algorithm>

#include "worker/cuda/launch.h"
#include "worker/cuda/ops/element.h"
#include "worker/cuda/ops/reduce.h"
#include "worker/cuda/ops/sampling.h"

namespace tandem::worker::cuda {
namespace {

using Key = unsigned long long;  // as the shuffles have it

constexpr int kPerLane = 32;
constexpr int kPerWarp = 32 * kPerLane;  // columns
constexpr int kWarpsPerBlock = 4;
constexpr int kListsPerLane = 16;  // 524288 columns

// A logit and its token as one number that grows with the logit, and among equal ones with a smaller token.
// Nothing is 0.
__device__ __forceinline__ Key KeyOf(float logit, int32_t token) {
  uint32_t bits = __float_as_uint(logit + 0.0f);  // -0 becomes 0
  bits = logit != logit ? 0u : (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return (static_cast<Key>(bits) << 32) | (~static_cast<uint32_t>(token));
}

__device__ __forceinline__ Candidate CandidateOf(Key key) {
  Candidate one;
  if (key == 0) return one;
  const uint32_t bits = static_cast<uint32_t>(key >> 32);
  one.token = static_cast<int32_t>(~static_cast<uint32_t>(key));
  one.logit = bits == 0 ? __uint_as_float(0x7fc00000u)
                        : __uint_as_float((bits & 0x80000000u) != 0 ? bits & 0x7fffffffu : ~bits);
  return one;
}

__device__ __forceinline__ Key WarpMax(Key key) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    const Key other = __shfl_xor_sync(kWholeWarp, key, lanes);
    if (other > key) key = other;
  }
  return key;
}

// One warp picks the best k of 1024 neighbouring columns, best first. Keys are all different, so what is left after a
// round is what is below its winner.
template <class T>
__global__ void PickKernel(const T* logits, int64_t stride, int32_t columns, int32_t first_token, int32_t k,
                           int32_t lists, Candidate* output) {
  const int lane = static_cast<int>(threadIdx.x);
  const int32_t list = static_cast<int32_t>(blockIdx.x) * kWarpsPerBlock + static_cast<int32_t>(threadIdx.y);
  if (list >= lists) return;
  const T* const row = logits + static_cast<int64_t>(blockIdx.y) * stride;
  Key keys[kPerLane];
#pragma unroll
  for (int j = 0; j < kPerLane; ++j) {
    const int32_t column = list * kPerWarp + j * 32 + lane;
    keys[j] = column < columns ? KeyOf(ToFloat(row[column]), first_token + column) : 0;
  }
  Candidate* const out = output + (static_cast<int64_t>(blockIdx.y) * lists + list) * k;
  Key mine = 0;
  Key winner = ~Key{0};
  for (int32_t i = 0; i < k; ++i) {
    if (i == 0 || mine == winner) {
      mine = 0;
#pragma unroll
      for (int j = 0; j < kPerLane; ++j) {
        if (keys[j] < winner && keys[j] > mine) mine = keys[j];
      }
    }
    winner = WarpMax(mine);
    if (lane == 0) out[i] = CandidateOf(winner);
  }
}

// One warp merges a row's lists, which are sorted, by looking at their heads.
__global__ void MergeKernel(const Candidate* lists_of_all, int32_t lists, int32_t k, Candidate* output) {
  const int lane = static_cast<int>(threadIdx.x);
  const Candidate* const mine = lists_of_all + static_cast<int64_t>(blockIdx.x) * lists * k;
  int32_t taken[kListsPerLane];
  Key heads[kListsPerLane];
#pragma unroll
  for (int j = 0; j < kListsPerLane; ++j) {
    const int32_t list = j * 32 + lane;
    taken[j] = 0;
    heads[j] = 0;
    if (list < lists) {
      const Candidate head = mine[static_cast<int64_t>(list) * k];
      if (head.token >= 0) heads[j] = KeyOf(head.logit, head.token);
    }
  }
  for (int32_t i = 0; i < k; ++i) {
    Key best = 0;
#pragma unroll
    for (int j = 0; j < kListsPerLane; ++j) best = heads[j] > best ? heads[j] : best;
    best = WarpMax(best);
    if (lane == 0) output[static_cast<int64_t>(blockIdx.x) * k + i] = CandidateOf(best);
#pragma unroll
    for (int j = 0; j < kListsPerLane; ++j) {
      if (best == 0 || heads[j] != best) continue;
      heads[j] = 0;
      if (++taken[j] < k) {
        const Candidate head = mine[static_cast<int64_t>(j * 32 + lane) * k + taken[j]];
        if (head.token >= 0) heads[j] = KeyOf(head.logit, head.token);
      }
    }
  }
}

template <class T>
__global__ void WidenKernel(const T* input, int64_t input_stride, float* output, int64_t output_stride, int64_t rows,
                            int64_t columns) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= rows * columns) return;
  output[i / columns * output_stride + i % columns] = ToFloat(input[i / columns * input_stride + i % columns]);
}

int32_t ListsOf(int32_t columns) { return (columns + kPerWarp - 1) / kPerWarp; }

}  // namespace

int64_t TopKWorkspaceBytes(int32_t rows, int32_t columns, int32_t k) {
  return int64_t{rows} * ListsOf(columns) * k * static_cast<int64_t>(sizeof(Candidate));
}

absl::Status TopK(const TopKArgs& args, cudaStream_t stream) {
  const int32_t lists = ListsOf(args.columns);
  if (args.k < 1 || args.k > kMaxTopK || args.columns < 1 || lists > 32 * kListsPerLane) {
    return absl::InvalidArgumentError(absl::StrCat("TopK takes 1 to ", kMaxTopK, " of at most ",
                                                   32 * kListsPerLane * kPerWarp, " columns, not ", args.k, " of ",
                                                   args.columns));
  }
  const absl::Status picked = ForAnyElement("TopK", args.type, [&](auto type) {
    using T = decltype(type);
    return Launch(
        "TopKPick", &PickKernel<T>,
        {dim3(BlocksFor(lists, kWarpsPerBlock), static_cast<unsigned int>(args.rows)), dim3(32, kWarpsPerBlock)},
        stream, static_cast<const T*>(args.logits), args.stride, args.columns, args.first_token, args.k, lists,
        lists == 1 ? args.output : args.workspace);
  });
  if (!picked.ok() || lists == 1) return picked;
  return Launch("TopKMerge", &MergeKernel, {dim3(static_cast<unsigned int>(args.rows)), dim3(32)}, stream,
                args.workspace, lists, args.k, args.output);
}

std::vector<Candidate> MergeCandidates(absl::Span<const Candidate> candidates, int32_t k) {
  std::vector<Candidate> best;
  for (const Candidate& one : candidates) {
    if (one.token >= 0) best.push_back(one);
  }
  std::sort(best.begin(), best.end(), [](const Candidate& a, const Candidate& b) {
    const bool a_is_none = a.logit != a.logit;
    const bool b_is_none = b.logit != b.logit;
    if (a_is_none != b_is_none) return b_is_none;
    if (!a_is_none && a.logit != b.logit) return a.logit > b.logit;
    return a.token < b.token;
  });
  if (static_cast<int32_t>(best.size()) > k) best.resize(static_cast<size_t>(k));
  return best;
}

absl::Status Widen(const WidenArgs& args, cudaStream_t stream) {
  constexpr unsigned int kThreads = 256;
  return ForAnyElement("Widen", args.type, [&](auto type) {
    using T = decltype(type);
    return Launch("Widen", &WidenKernel<T>, {dim3(BlocksFor(args.rows * args.columns, kThreads)), dim3(kThreads)},
                  stream, static_cast<const T*>(args.input), args.input_stride, args.output, args.output_stride,
                  args.rows, args.columns);
  });
}

}  // namespace tandem::worker::cuda
