// Products of few rows, against plain loops in double; and rows that do not notice each other.

#include "worker/cuda/ops/gemv.h"

#include <gtest/gtest.h>

#include "worker/cuda/ops/device_for_test.h"

namespace tandem::worker::cuda {
namespace {

class GemvTest : public DeviceTest {};

TEST_F(GemvTest, ProductsOfAllShapes) {
  for (const model::DType type : kSixteenBits) {
    for (const auto& [columns, inner] :
         {std::pair<int64_t, int64_t>{1, 8}, {16, 32}, {17, 40}, {50, 1024}, {33, 1160}, {5, 2056}}) {
      const int64_t stride = inner + 8;
      const std::vector<float> weight = Noise(1, static_cast<size_t>(columns * inner), type);
      const std::vector<float> input = Noise(2, static_cast<size_t>(8 * stride), type);
      const std::vector<float> bias = Noise(3, static_cast<size_t>(columns), type);
      const OnDevice<uint16_t> weight_bits(BitsOf(weight, type)), input_bits(BitsOf(input, type));
      const OnDevice<float> bias_values(bias);
      std::vector<float> alone;  // The first row by itself.
      for (const int32_t rows : {1, 2, 5, 8}) {
        for (const bool wide : {true, false}) {
          // Beyond the columns of a row lies what must not be written.
          const size_t out_stride = static_cast<size_t>(columns) + 3;
          const size_t out_size = static_cast<size_t>(rows) * out_stride;
          const OnDevice<float> wide_output(out_size, 0.5f);
          const OnDevice<uint16_t> output(out_size, 0x1234);
          const GemvArgs args{.input = input_bits.data(),
                              .input_stride = stride,
                              .weight = weight_bits.data(),
                              .type = type,
                              .bias = wide ? nullptr : bias_values.data(),
                              .output = wide ? static_cast<void*>(wide_output.data()) : output.data(),
                              .output_stride = static_cast<int64_t>(out_stride),
                              .output_type = wide ? model::DType::kFloat32 : type,
                              .accumulate = wide,
                              .rows = rows,
                              .columns = columns,
                              .inner = inner};
          ASSERT_TRUE(GemvTakes(args));
          ASSERT_DONE(Gemv(args, stream_));
          const std::vector<float> got = wide ? wide_output.Read() : FromBits(output.Read(), type);
          for (size_t i = 0; i < out_size; ++i) {
            const size_t row = i / out_stride, column = i % out_stride;
            if (column >= static_cast<size_t>(columns)) {
              ASSERT_EQ(got[i], wide ? 0.5f : FromBits(0x1234, type)) << "wrote beyond the row";
              continue;
            }
            double wanted = wide ? 0.5 : bias[column];
            for (int64_t k = 0; k < inner; ++k) {
              wanted += double{weight[column * static_cast<size_t>(inner) + static_cast<size_t>(k)]} *
                        input[row * static_cast<size_t>(stride) + static_cast<size_t>(k)];
            }
            // Sums of `inner` products in float32, in groups whose order the device may choose; then one rounding.
            const double slack =
                2e-7 * static_cast<double>(inner) + 1e-6 + (wide ? 0 : 1.01 * RoundingOf(type) * std::fabs(wanted));
            ASSERT_NEAR(got[i], wanted, slack) << rows << " rows of " << columns << "x" << inner << " at " << i;
          }
          if (!wide) continue;
          const std::vector<float> first(got.begin(), got.begin() + static_cast<std::ptrdiff_t>(columns));
          if (rows == 1) alone = first;
          ASSERT_EQ(first, alone) << "a row's bits do not depend on how many there are";
        }
      }
    }
  }
}

TEST_F(GemvTest, WhatItDoesNotTakeIsRefused) {
  const OnDevice<uint16_t> some(64, 0);
  GemvArgs args{.input = some.data(),
                .input_stride = 8,
                .weight = some.data(),
                .output = some.data(),
                .output_stride = 1,
                .rows = 1,
                .columns = 1,
                .inner = 8};
  EXPECT_TRUE(GemvTakes(args));
  args.rows = 9;
  EXPECT_FALSE(Gemv(args, stream_).ok());
  args.rows = 1;
  args.inner = 12;
  EXPECT_FALSE(Gemv(args, stream_).ok());
  args.inner = 8;
  args.weight = some.data() + 1;
  EXPECT_FALSE(Gemv(args, stream_).ok());
  args.weight = some.data();
  args.accumulate = true;
  EXPECT_FALSE(Gemv(args, stream_).ok());
}

}  // namespace
}  // namespace tandem::worker::cuda
