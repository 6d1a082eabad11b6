// Paged attention, as a template over the vector type. See AttentionArgs for what it computes.
//
// A row is one query head of one new token; the rows of a KV head are taken a few at a time, so that a tile of keys and
// values is read once for all of them. A tile that lies wholly in the range of every row is computed for the rows
// together; at the ends of a range each row is alone and looks at its own positions only. Either way a row sees the
// same operations in the same order, so neighbours and chunks do not change its bits, and what lies in a block beyond
// the row's range (old keys, nothing yet) has no weight and adds nothing.
#ifndef TANDEM_WORKER_EXEC_OPS_ATTENTION_KERNEL_H_
#define TANDEM_WORKER_EXEC_OPS_ATTENTION_KERNEL_H_

#include <cstdint>

#include "worker/exec/ops/cpu_kernels.h"
#include "worker/exec/ops/exp_kernel.h"

namespace tandem::worker {

template <class V>
class AttentionKernel {
 public:
  static constexpr int kTile = 16;  // keys, one KV block

  static void Run(const AttentionArgs& args) {
    if (args.bf16) {
      RunTyped<uint16_t>(args);
    } else {
      RunTyped<float>(args);
    }
  }

 private:
  using Reg = typename V::Reg;
  static constexpr int kRows = 4;
  static constexpr int kWide = kTile / V::kLanes;
  static constexpr int kMaxHeadDim = 1024;

  struct Row {
    const float* query;
    float* output;
    int64_t first;  // positions that it sees, inclusive
    int64_t last;
    float top;    // largest score so far
    float total;  // sum of weights, relative to `top`
    float* sum;   // weighted values, padded head size
  };

  static Reg LoadKv(const float* p) { return V::Load(p); }
  static Reg LoadKv(const uint16_t* p) { return V::LoadBf16(p); }

  // Scores of a tile for N rows. `keys` is [head_dim][16].
  template <int N, class T>
  static inline __attribute__((always_inline)) void Scores(const T* keys, const AttentionArgs& args, Row* rows,
                                                           float (&scores)[N][kTile]) {
    Reg sum[N][kWide];
    for (int n = 0; n < N; ++n) {
      for (int j = 0; j < kWide; ++j) sum[n][j] = V::Zero();
    }
    for (int64_t d = 0; d < args.head_dim; ++d) {
      Reg key[kWide];
      for (int j = 0; j < kWide; ++j) key[j] = LoadKv(keys + d * kTile + j * V::kLanes);
      for (int n = 0; n < N; ++n) {
        const Reg q = V::Broadcast(rows[n].query[d]);
        for (int j = 0; j < kWide; ++j) sum[n][j] = V::Fma(q, key[j], sum[n][j]);
      }
    }
    const Reg scale = V::Broadcast(args.scale);
    for (int n = 0; n < N; ++n) {
      for (int j = 0; j < kWide; ++j) V::Store(scores[n] + j * V::kLanes, V::Mul(sum[n][j], scale));
    }
  }

  // Turns scores into weights, and returns what earlier sums are to be multiplied by. Only lanes [from, to] count.
  static inline __attribute__((always_inline)) float Weigh(int from, int to, Row* row, float* scores) {
    float top = row->top;
    for (int t = from; t <= to; ++t) top = scores[t] > top ? scores[t] : top;
    for (int t = 0; t < kTile; ++t) {
      if (t < from || t > to) scores[t] = -__builtin_inff();
    }
    const Reg shift = V::Broadcast(top);
    for (int j = 0; j < kWide; ++j) {
      V::Store(scores + j * V::kLanes, Exp<V>(V::Sub(V::Load(scores + j * V::kLanes), shift)));
    }
    float old[V::kLanes] = {};
    V::Store(old, Exp<V>(V::Broadcast(row->top - top)));
    float total = row->total * old[0];
    for (int t = 0; t < kTile; ++t) total += scores[t];
    row->total = total;
    row->top = top;
    return old[0];
  }

  // Adds the weighted values of lanes [from, to]. `values` is [16][padded head size].
  template <int N, class T>
  static inline __attribute__((always_inline)) void AddValues(const T* values, int64_t padded, int from, int to,
                                                              const float (&weights)[N][kTile], const float (&old)[N],
                                                              Row* rows) {
    for (int64_t d = 0; d < padded; d += V::kLanes) {
      Reg sum[N];
      for (int n = 0; n < N; ++n) sum[n] = V::Mul(V::Load(rows[n].sum + d), V::Broadcast(old[n]));
      for (int t = from; t <= to; ++t) {
        const Reg value = LoadKv(values + t * padded + d);
        for (int n = 0; n < N; ++n) sum[n] = V::Fma(V::Broadcast(weights[n][t]), value, sum[n]);
      }
      for (int n = 0; n < N; ++n) V::Store(rows[n].sum + d, sum[n]);
    }
  }

  template <int N, class T>
  static void Tile(const T* keys, int64_t padded, int from, int to, const AttentionArgs& args, Row* rows) {
    float weights[N][kTile];
    float old[N];
    Scores<N>(keys, args, rows, weights);
    for (int n = 0; n < N; ++n) old[n] = Weigh(from, to, &rows[n], weights[n]);
    AddValues<N>(keys + padded * kTile, padded, from, to, weights, old, rows);
  }

  template <class T>
  static void RunTyped(const AttentionArgs& args) {
    const int64_t padded = (args.head_dim + 15) / 16 * 16;
    const int64_t rows_per_head = args.tokens * args.group;
    float sums[kRows][kMaxHeadDim];
    for (int64_t head = args.kv_head_begin; head < args.kv_head_end; ++head) {
      for (int64_t begin = 0; begin < rows_per_head; begin += kRows) {
        const int count = static_cast<int>(rows_per_head - begin < kRows ? rows_per_head - begin : kRows);
        Row rows[kRows];
        int64_t lowest = INT64_MAX;
        int64_t highest = 0;
        for (int n = 0; n < count; ++n) {
          const int64_t token = (begin + n) / args.group;
          const int64_t offset = (head * args.group + (begin + n) % args.group) * args.head_dim;
          const int64_t last = args.both_ways ? args.tokens - 1 : args.start + token;
          const int64_t first = args.window > 0 && last >= args.window ? last - args.window + 1 : 0;
          rows[n] = {args.queries + token * args.query_stride + offset,
                     args.output + token * args.output_stride + offset,
                     first,
                     last,
                     -__builtin_inff(),
                     0.0f,
                     sums[n]};
          for (int64_t d = 0; d < padded; ++d) sums[n][d] = 0.0f;
          lowest = first < lowest ? first : lowest;
          highest = last > highest ? last : highest;
        }
        for (int64_t tile = lowest / kTile; tile <= highest / kTile; ++tile) {
          const int64_t position = tile * kTile;
          const T* keys =
              static_cast<const T*>(args.pool) + args.blocks[tile] * args.block_stride + head * 2 * padded * kTile;
          bool full = count == kRows;
          for (int n = 0; n < count; ++n)
            full = full && rows[n].first <= position && position + kTile - 1 <= rows[n].last;
          if (full) {
            Tile<kRows>(keys, padded, 0, kTile - 1, args, rows);
            continue;
          }
          for (int n = 0; n < count; ++n) {
            const int64_t from = rows[n].first > position ? rows[n].first - position : 0;
            const int64_t to = rows[n].last - position < kTile - 1 ? rows[n].last - position : kTile - 1;
            if (from <= to) Tile<1>(keys, padded, static_cast<int>(from), static_cast<int>(to), args, &rows[n]);
          }
        }
        for (int n = 0; n < count; ++n) {
          const float inverse = 1.0f / rows[n].total;
          for (int64_t d = 0; d < args.head_dim; ++d) rows[n].output[d] = rows[n].sum[d] * inverse;
        }
      }
    }
  }
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_OPS_ATTENTION_KERNEL_H_
