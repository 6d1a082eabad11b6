// The product with a packed matrix, as a template over the vector type. See MatmulArgs for what it computes.
//
// A tile is a few rows by a part of a panel, its sums in registers. With few rows the panel is streamed once from
// memory and the rows ride along. With many, a stretch of the panel that fits the second cache is used for all rows
// before the next one; the sums rest in the output in between, which continues the same chain, so the bits do not
// change.
#ifndef TANDEM_WORKER_EXEC_OPS_MATMUL_KERNEL_H_
#define TANDEM_WORKER_EXEC_OPS_MATMUL_KERNEL_H_

#include <cstddef>
#include <cstdint>

#include "worker/exec/ops/cpu_kernels.h"

namespace tandem::worker {

template <class V>
class MatmulKernel {
 public:
  static void Run(const MatmulArgs& args) {
    if (args.bf16) {
      RunTyped<uint16_t>(args);
    } else {
      RunTyped<float>(args);
    }
  }

 private:
  using Reg = typename V::Reg;
  static constexpr int64_t kPanel = 64;
  // Inputs that are used for all rows before the next are touched; even. What a panel's parts reread has to stay in the
  // first cache, a whole panel's stretch in the second.
  static constexpr int64_t kStretch = V::kRegistersOfMany * V::kLanes == kPanel ? 512 : 128;
  static constexpr int kStreamingRows = 4;  // up to here a product waits for memory more than for the multipliers

  // One row's sums for `Registers` registers of a panel's part.
  struct Stretch {
    const float* input;  // at the stretch's first k, row 0
    int64_t input_stride;
    int64_t inner;  // inputs in the stretch
    float* sums;    // row 0
    int64_t sum_stride;
    const float* first;  // sums to begin with for every row (bias or zeros); null: continue what `sums` holds
  };

  template <int Rows, int Registers>
  static inline __attribute__((always_inline)) void Accumulate(const float* weight, const float* input, int64_t stride,
                                                               int64_t k, Reg (&sum)[Rows][Registers]) {
    Reg w[Registers];
    for (int j = 0; j < Registers; ++j) w[j] = V::Load(weight + k * kPanel + j * V::kLanes);
    for (int r = 0; r < Rows; ++r) {
      const Reg x = V::Broadcast(input[r * stride + k]);
      for (int j = 0; j < Registers; ++j) sum[r][j] = V::Fma(x, w[j], sum[r][j]);
    }
  }

  template <int Rows, int Registers>
  static inline __attribute__((always_inline)) void AccumulatePair(const uint16_t* weight, const float* input,
                                                                   int64_t stride, int64_t k, bool with_odd,
                                                                   Reg (&sum)[Rows][Registers]) {
    const uint16_t* at = weight + k * kPanel;
    Reg w[Registers];
    for (int j = 0; j < Registers; ++j) w[j] = V::EvenBf16(at + j * 2 * V::kLanes);
    for (int r = 0; r < Rows; ++r) {
      const Reg x = V::Broadcast(input[r * stride + k]);
      for (int j = 0; j < Registers; ++j) sum[r][j] = V::Fma(x, w[j], sum[r][j]);
    }
    if (!with_odd) return;
    for (int j = 0; j < Registers; ++j) w[j] = V::OddBf16(at + j * 2 * V::kLanes);
    for (int r = 0; r < Rows; ++r) {
      const Reg x = V::Broadcast(input[r * stride + k + 1]);
      for (int j = 0; j < Registers; ++j) sum[r][j] = V::Fma(x, w[j], sum[r][j]);
    }
  }

  // Two inputs at once, rounded to bfloat16 and lying in the bits of one float of the row.
  template <int Rows, int Registers>
  static inline __attribute__((always_inline)) void DotPair(const uint16_t* weight, const float* input, int64_t stride,
                                                            int64_t k, Reg (&sum)[Rows][Registers]) {
    const uint16_t* at = weight + k * kPanel;
    for (int r = 0; r < Rows; ++r) {
      const Reg x = V::Broadcast(input[r * stride + k / 2]);
      for (int j = 0; j < Registers; ++j) sum[r][j] = V::DotPairs(x, at + j * 2 * V::kLanes, sum[r][j]);
    }
  }

  template <int Rows, int Registers, class W>
  static void Tile(const W* weight, const Stretch& s) {
    Reg sum[Rows][Registers];
    for (int r = 0; r < Rows; ++r) {
      for (int j = 0; j < Registers; ++j) {
        const float* begin = s.first != nullptr ? s.first : s.sums + r * s.sum_stride;
        sum[r][j] = V::Load(begin + j * V::kLanes);
      }
    }
    constexpr int kLines = Registers * V::kLanes * 4 / 64;  // One float32, or one pair of bfloat16, per lane.
    if constexpr (sizeof(W) == 4) {
      for (int64_t k = 0; k < s.inner; ++k) {
        if constexpr (Rows <= kStreamingRows) Prefetch<Rows, kLines>(weight + k * kPanel);
        Accumulate<Rows, Registers>(weight, s.input, s.input_stride, k, sum);
      }
    } else if constexpr (V::kDotsPairs) {
      for (int64_t k = 0; k < s.inner; k += 2) {
        if constexpr (Rows <= kStreamingRows) Prefetch<Rows, kLines>(weight + k * kPanel);
        DotPair<Rows, Registers>(weight, s.input, s.input_stride, k, sum);
      }
    } else {
      int64_t k = 0;
      for (; k + 1 < s.inner; k += 2) {
        if constexpr (Rows <= kStreamingRows) Prefetch<Rows, kLines>(weight + k * kPanel);
        AccumulatePair<Rows, Registers>(weight, s.input, s.input_stride, k, true, sum);
      }
      if (k < s.inner) AccumulatePair<Rows, Registers>(weight, s.input, s.input_stride, k, false, sum);
    }
    for (int r = 0; r < Rows; ++r) {
      for (int j = 0; j < Registers; ++j) V::Store(s.sums + r * s.sum_stride + j * V::kLanes, sum[r][j]);
    }
  }

  // One row hurries through a panel, so its weights come straight to the first cache. Several rows stay longer with
  // each stretch, and the next one is fetched to the second cache meanwhile.
  template <int Rows, int Lines>
  static inline __attribute__((always_inline)) void Prefetch(const void* at) {
    constexpr int64_t kAhead = Rows == 1 ? 4096 : 16384;
    for (int i = 0; i < Lines; ++i) {
      __builtin_prefetch(static_cast<const char*>(at) + kAhead + 64 * i, /*rw=*/0, /*locality=*/Rows == 1 ? 3 : 2);
    }
  }

  // A panel's part is `Registers` registers wide; the weights of lane 0 stand `pairs * lane` elements from the panel's.
  template <int Rows, int Registers, class W>
  static void Across(const W* weight, const Stretch& whole) {
    constexpr int64_t kWidth = Registers * V::kLanes;
    constexpr int64_t kElementsPerLane = sizeof(W) == 2 ? 2 : 1;
    for (int64_t lane = 0; lane < kPanel; lane += kWidth) {
      Stretch part = whole;
      part.sums += lane;
      if (part.first != nullptr) part.first += lane;
      Tile<Rows, Registers>(weight + lane * kElementsPerLane, part);
    }
  }

  template <class W>
  static void Rows(int64_t rows, const W* weight, const Stretch& s) {
    switch (rows) {
      case 1:
        return Across<1, V::kRegistersOfOne>(weight, s);
      case 2:
        return Across<2, V::kRegistersOfMany>(weight, s);
      case 3:
        return Across<3, V::kRegistersOfMany>(weight, s);
      case 4:
        return Across<4, V::kRegistersOfMany>(weight, s);
      case 5:
        if constexpr (V::kMaxRows >= 5) return Across<5, V::kRegistersOfMany>(weight, s);
        break;
      case 6:
        if constexpr (V::kMaxRows >= 6) return Across<6, V::kRegistersOfMany>(weight, s);
        break;
    }
    __builtin_unreachable();
  }

  template <class W>
  static void RunTyped(const MatmulArgs& args) {
    constexpr int64_t kInputsPerFloat = sizeof(W) == 2 && V::kDotsPairs ? 2 : 1;
    const int64_t padded_inner = sizeof(W) == 2 ? (args.inner + 1) / 2 * 2 : args.inner;
    const bool once = args.rows == 1 || (args.rows <= V::kMaxRows && V::kRegistersOfMany * V::kLanes == kPanel);
    const int64_t stretch = once ? args.inner : kStretch;
    for (int64_t panel = args.panel_begin; panel < args.panel_end; ++panel) {
      const W* weight = static_cast<const W*>(args.panels) + panel * kPanel * padded_inner;
      const int64_t column = panel * kPanel;
      const int64_t width = args.columns - column < kPanel ? args.columns - column : kPanel;
      float first[kPanel] = {};
      if (args.bias != nullptr) __builtin_memcpy(first, args.bias + column, static_cast<size_t>(width) * 4);
      for (int64_t k = 0; k < args.inner; k += stretch) {
        const int64_t inner = args.inner - k < stretch ? args.inner - k : stretch;
        for (int64_t row = 0; row < args.rows; row += V::kMaxRows) {
          const int64_t rows = args.rows - row < V::kMaxRows ? args.rows - row : V::kMaxRows;
          float* output = args.output + row * args.output_stride + column;
          Stretch s{args.input + row * args.input_stride + k / kInputsPerFloat,
                    args.input_stride,
                    inner,
                    output,
                    args.output_stride,
                    k == 0 ? first : nullptr};
          if (width == kPanel) {
            Rows(rows, weight + k * kPanel, s);
          } else {
            // The last panel is wider than what is left of the rows: its sums go through a place of their own.
            float sums[V::kMaxRows * kPanel] = {};
            for (int64_t r = 0; r < rows && k > 0; ++r) {
              __builtin_memcpy(sums + r * kPanel, output + r * args.output_stride, static_cast<size_t>(width) * 4);
            }
            s.sums = sums;
            s.sum_stride = kPanel;
            Rows(rows, weight + k * kPanel, s);
            for (int64_t r = 0; r < rows; ++r) {
              __builtin_memcpy(output + r * args.output_stride, sums + r * kPanel, static_cast<size_t>(width) * 4);
            }
          }
        }
      }
    }
  }
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_OPS_MATMUL_KERNEL_H_
