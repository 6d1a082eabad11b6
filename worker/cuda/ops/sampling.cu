#include <algorithm>
#include <array>
#include <cmath>

#include "worker/comm/group_identity.h"
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

// What a warp found of its columns: a report, with keys for the tokens.
struct List {
  double sum;
  double tempered_sum;
  float highest;
  int32_t unused;
  Key bad;  // token and logit's bits; ~0: none
  Key best[kMostBestTokens];
};

// A logit and its token as one number that grows with the logit, and among equal ones with a smaller token.
// Nothing is 0.
__device__ __forceinline__ Key KeyOf(float logit, int32_t token) {
  uint32_t bits = __float_as_uint(logit + 0.0f);  // -0 becomes 0
  bits = logit != logit ? 0u : (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return (static_cast<Key>(bits) << 32) | (~static_cast<uint32_t>(token));
}

__device__ __forceinline__ int32_t TokenOf(Key key) { return static_cast<int32_t>(~static_cast<uint32_t>(key)); }

__device__ __forceinline__ float LogitOf(Key key) {
  const uint32_t bits = static_cast<uint32_t>(key >> 32);
  if (bits == 0) return __uint_as_float(0x7fc00000u);
  return __uint_as_float((bits & 0x80000000u) != 0 ? bits & 0x7fffffffu : ~bits);
}

__device__ __forceinline__ Key WarpMax(Key key) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    const Key other = __shfl_xor_sync(kWholeWarp, key, lanes);
    if (other > key) key = other;
  }
  return key;
}

__device__ __forceinline__ Key WarpMin(Key key) { return ~WarpMax(~key); }

__device__ __forceinline__ double WarpSum(double x) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(kWholeWarp, x, lanes);
  return x;
}

// One warp reports on 1024 neighbouring columns. Keys are all different, so what is left after a round is what is below
// its winner.
template <class T>
__global__ void PickKernel(const T* logits, int64_t stride, int32_t columns, int32_t first_token, const int32_t* best,
                           const float* temperature, int32_t lists, List* output) {
  const int lane = static_cast<int>(threadIdx.x);
  const int32_t list = static_cast<int32_t>(blockIdx.x) * kWarpsPerBlock + static_cast<int32_t>(threadIdx.y);
  const int32_t wanted = best[blockIdx.y];
  if (list >= lists || wanted == 0) return;
  const T* const row = logits + static_cast<int64_t>(blockIdx.y) * stride;
  List* const out = output + static_cast<int64_t>(blockIdx.y) * lists + list;
  Key keys[kPerLane];
  Key bad = ~Key{0};
#pragma unroll
  for (int j = 0; j < kPerLane; ++j) {
    const int32_t column = list * kPerWarp + j * 32 + lane;
    keys[j] = 0;
    if (column >= columns) continue;
    const float logit = ToFloat(row[column]);
    const int32_t token = first_token + column;
    keys[j] = KeyOf(logit, token);
    const uint32_t bits = __float_as_uint(logit);
    // Columns grow with j, so the first is the lowest.
    if ((bits & 0x7f800000u) == 0x7f800000u && bad == ~Key{0}) bad = (static_cast<Key>(token) << 32) | bits;
  }
  bad = WarpMin(bad);
  Key mine = 0;
  Key winner = ~Key{0};
  float highest = 0;
  for (int32_t i = 0; i < wanted; ++i) {
    if (i == 0 || mine == winner) {
      mine = 0;
#pragma unroll
      for (int j = 0; j < kPerLane; ++j) {
        if (keys[j] < winner && keys[j] > mine) mine = keys[j];
      }
    }
    winner = WarpMax(mine);
    if (i == 0) highest = LogitOf(winner);
    if (lane == 0) out->best[i] = winner;
  }
  double sum = 0;
  double tempered = 0;
  const float t = temperature[blockIdx.y];
  if (t > 0) {
    // The exponentials and a lane's 32 of them in float: GeForce cards take 64 times as long in double.
    const float scale = 1.0f / t;
    float of_lane = 0;
    float tempered_of_lane = 0;
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) {
      if (keys[j] == 0) continue;
      const float below = LogitOf(keys[j]) - highest;
      of_lane += expf(below);
      if (t != 1.0f) tempered_of_lane += expf(below * scale);
    }
    sum = WarpSum(static_cast<double>(of_lane));
    tempered = t != 1.0f ? WarpSum(static_cast<double>(tempered_of_lane)) : sum;
  }
  if (lane != 0) return;
  out->sum = sum;
  out->tempered_sum = tempered;
  out->highest = highest;
  out->bad = bad;
}

// One warp makes a row's report of its lists: of those that are sorted by looking at their heads, of sums by bringing
// them to the highest of all.
__global__ void MergeKernel(const List* lists_of_all, int32_t lists, const int32_t* best, const float* temperature,
                            RowReport* reports) {
  const int lane = static_cast<int>(threadIdx.x);
  const int32_t wanted = best[blockIdx.x];
  if (wanted == 0) return;
  const List* const mine = lists_of_all + static_cast<int64_t>(blockIdx.x) * lists;
  RowReport* const report = reports + blockIdx.x;
  int32_t taken[kListsPerLane];
  Key heads[kListsPerLane];
  Key bad = ~Key{0};
#pragma unroll
  for (int j = 0; j < kListsPerLane; ++j) {
    const int32_t list = j * 32 + lane;
    taken[j] = 0;
    heads[j] = list < lists ? mine[list].best[0] : 0;
    if (list < lists && mine[list].bad < bad) bad = mine[list].bad;
  }
  bad = WarpMin(bad);
  int32_t count = 0;
  float highest = 0;
  for (int32_t i = 0; i < wanted; ++i) {
    Key winner = 0;
#pragma unroll
    for (int j = 0; j < kListsPerLane; ++j) winner = heads[j] > winner ? heads[j] : winner;
    winner = WarpMax(winner);
    if (winner == 0) break;
    if (i == 0) highest = LogitOf(winner);
    ++count;
    if (lane == 0) {
      report->best[i].token = TokenOf(winner);
      report->best[i].logit = LogitOf(winner);
    }
#pragma unroll
    for (int j = 0; j < kListsPerLane; ++j) {
      if (heads[j] == winner) heads[j] = ++taken[j] < wanted ? mine[j * 32 + lane].best[taken[j]] : 0;
    }
  }
  double sum = 0;
  double tempered = 0;
  const float t = temperature[blockIdx.x];
  if (t > 0 && count > 0) {
    const double scale = 1.0 / static_cast<double>(t);
    for (int32_t list = lane; list < lists; list += 32) {
      const double below = static_cast<double>(mine[list].highest) - static_cast<double>(highest);
      sum += mine[list].sum * exp(below);
      tempered += mine[list].tempered_sum * exp(below * scale);
    }
    sum = WarpSum(sum);
    tempered = WarpSum(tempered);
  }
  if (lane != 0) return;
  report->sum = sum;
  report->tempered_sum = tempered;
  report->highest = count > 0 ? highest : __uint_as_float(0xff800000u);
  report->bad_token = bad == ~Key{0} ? -1 : static_cast<int32_t>(bad >> 32);
  report->bad_logit = __uint_as_float(static_cast<uint32_t>(bad));
  report->count = count;
}

int32_t ListsOf(int32_t columns) { return std::max(1, (columns + kPerWarp - 1) / kPerWarp); }

}  // namespace

int64_t BestTokensWorkspaceBytes(int32_t rows, int32_t columns) {
  return int64_t{rows} * ListsOf(columns) * static_cast<int64_t>(sizeof(List));
}

absl::Status PickBestTokens(const BestTokensArgs& args, cudaStream_t stream) {
  const int32_t lists = ListsOf(args.columns);
  if (args.columns < 0 || lists > 32 * kListsPerLane) {
    return absl::InvalidArgumentError(absl::StrCat("a rank's part of a vocabulary has at most ",
                                                   32 * kListsPerLane * kPerWarp, " tokens here, not ", args.columns));
  }
  List* const workspace = static_cast<List*>(args.workspace);
  const absl::Status picked = ForAnyElement("PickBestTokens", args.type, [&](auto type) {
    using T = decltype(type);
    return Launch(
        "BestTokensPick", &PickKernel<T>,
        {dim3(BlocksFor(lists, kWarpsPerBlock), static_cast<unsigned int>(args.rows)), dim3(32, kWarpsPerBlock)},
        stream, static_cast<const T*>(args.logits), args.stride, args.columns, args.first_token, args.best,
        args.temperature, lists, workspace);
  });
  if (!picked.ok()) return picked;
  return Launch("BestTokensMerge", &MergeKernel, {dim3(static_cast<unsigned int>(args.rows)), dim3(32)}, stream,
                workspace, lists, args.best, args.temperature, args.reports);
}

BestTokens MergeReports(absl::Span<const RowReport* const> reports, int32_t count, float temperature,
                        TokenLogit* room) {
  BestTokens merged;
  double highest = -std::numeric_limits<double>::infinity();
  for (const RowReport* report : reports) {
    if (report->count > 0) highest = std::max(highest, static_cast<double>(report->highest));
    // Ranks hold the vocabulary in order, so the first one has the lowest.
    if (report->bad_token >= 0 && !merged.not_finite) {
      merged.not_finite = TokenLogit{.token = report->bad_token, .logit = report->bad_logit};
    }
  }
  std::array<int32_t, kMaxRanks> taken{};
  int32_t filled = 0;
  for (; filled < count; ++filled) {
    const TokenLogit* best = nullptr;
    size_t from = 0;
    for (size_t r = 0; r < reports.size(); ++r) {
      if (taken[r] >= reports[r]->count) continue;
      const TokenLogit* const head = &reports[r]->best[taken[r]];
      // Among equals the lower rank has the lower token.
      if (best != nullptr && !(head->logit > best->logit)) continue;
      best = head;
      from = r;
    }
    if (best == nullptr) break;
    room[filled] = *best;
    ++taken[from];
  }
  merged.tokens = absl::MakeConstSpan(room, static_cast<size_t>(filled));
  if (!(temperature > 0)) return merged;
  for (const RowReport* report : reports) {
    if (report->count == 0) continue;
    const double below = static_cast<double>(report->highest) - highest;
    merged.sum += report->sum * std::exp(below);
    merged.tempered_sum += report->tempered_sum * std::exp(below / static_cast<double>(temperature));
  }
  return merged;
}

}  // namespace tandem::worker::cuda
