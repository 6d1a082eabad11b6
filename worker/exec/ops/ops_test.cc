// Operators against plain loops in double, and the rotary frequencies against the reference's.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/model/json_fields.h"
#include "base/model/model_config.h"
#include "nlohmann/json.hpp"
#include "worker/exec/cpu_isa.h"
#include "worker/exec/model_runner_for_test.h"
#include "worker/exec/ops/rope.h"
#include "worker/model/memory_arena.h"
#include "worker/model/packed_matrix.h"

namespace tandem::worker {
namespace {

std::vector<float> Noise(uint32_t seed, size_t count) {
  std::mt19937 random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random() % 20001) / 10000.0f - 1.0f;
  return values;
}

struct Packed {
  Packed(const std::vector<float>& weights, int64_t columns, int64_t inner, model::DType dtype) {
    matrix = PackedMatrix{dtype, columns, inner, nullptr};
    arena = *MemoryArena::Map(matrix.bytes());
    matrix.data = arena.Take(matrix.bytes());
    PackColumns({model::DType::kFloat32, reinterpret_cast<const uint8_t*>(weights.data()), columns, inner, inner, 1}, 0,
                &matrix);
  }
  PackedMatrix matrix;
  MemoryArena arena;
};

class Kernels : public testing::TestWithParam<std::string> {
 protected:
  const CpuKernels& kernels() { return **ChooseKernels(GetParam()); }

  bool Rounds(model::DType dtype) { return dtype == model::DType::kBFloat16 && kernels().round_rows != nullptr; }

  // Rows of output, at a stride wider than they are, so that a write beyond a row shows.
  std::vector<float> Multiply(std::vector<float> input, int64_t rows, const Packed& weights,
                              const std::vector<float>& bias) {
    const PackedMatrix& matrix = weights.matrix;
    if (Rounds(matrix.dtype)) kernels().round_rows({input.data(), matrix.inner, rows, matrix.inner});
    const int64_t stride = matrix.columns + 3;
    std::vector<float> output(static_cast<size_t>(rows * stride), -77.0f);
    kernels().matmul({.input = input.data(),
                      .input_stride = matrix.inner,
                      .rows = rows,
                      .panels = matrix.data,
                      .bf16 = matrix.dtype == model::DType::kBFloat16,
                      .inner = matrix.inner,
                      .columns = matrix.columns,
                      .bias = bias.empty() ? nullptr : bias.data(),
                      .output = output.data(),
                      .output_stride = stride,
                      .panel_begin = 0,
                      .panel_end = matrix.panels()});
    return output;
  }
};

TEST_P(Kernels, ProductsOfAllShapes) {
  for (const model::DType dtype : {model::DType::kFloat32, model::DType::kBFloat16}) {
    for (const auto& [columns, inner] :
         {std::pair<int64_t, int64_t>{1, 1}, {64, 2}, {65, 7}, {130, 513}, {63, 1031}, {128, 1024}}) {
      std::vector<float> weights = Noise(1, static_cast<size_t>(columns * inner));
      const Packed packed(weights, columns, inner, dtype);
      if (dtype == model::DType::kBFloat16) {
        for (float& weight : weights) weight = model::FloatFromBFloat16(model::BFloat16FromFloat(weight));
      }
      const std::vector<float> bias = Noise(2, static_cast<size_t>(columns));
      const std::vector<float> input = Noise(3, static_cast<size_t>(19 * inner));
      std::vector<float> alone;  // Every row by itself.
      for (int64_t r = 0; r < 19; ++r) {
        const std::vector<float> row(input.begin() + r * inner, input.begin() + (r + 1) * inner);
        const std::vector<float> output = Multiply(row, 1, packed, bias);
        alone.insert(alone.end(), output.begin(), output.end());
      }
      for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 13, 19}) {
        const std::vector<float> output = Multiply(input, rows, packed, bias);
        ASSERT_EQ(output, std::vector<float>(alone.begin(), alone.begin() + static_cast<std::ptrdiff_t>(output.size())))
            << rows << " rows of " << columns << "x" << inner;
      }
      for (int64_t r = 0; r < 19; ++r) {
        for (int64_t c = 0; c < columns + 3; ++c) {
          const float got = alone[static_cast<size_t>(r * (columns + 3) + c)];
          if (c >= columns) {
            ASSERT_EQ(got, -77.0f) << "wrote beyond the row";
            continue;
          }
          double wanted = bias[static_cast<size_t>(c)];
          for (int64_t k = 0; k < inner; ++k) {
            float x = input[static_cast<size_t>(r * inner + k)];
            if (Rounds(dtype)) x = model::FloatFromBFloat16(model::BFloat16FromFloat(x));
            wanted += double{x} * weights[static_cast<size_t>(c * inner + k)];
          }
          // Rounding of a chain of `inner` sums of magnitude sqrt(inner), with room.
          ASSERT_NEAR(got, wanted, 1e-6 * static_cast<double>(inner) / 8 + 1e-6) << r << "," << c;
        }
      }
    }
  }
}

TEST_P(Kernels, ActivationsOverTheWholeRange) {
  std::vector<float> x;
  for (float value = -120.0f; value <= 120.0f; value += 0.37f) x.push_back(value);
  std::vector<float> silu = x, gelu = x, gated = x;
  const std::vector<float> up = Noise(4, x.size());
  const int64_t count = static_cast<int64_t>(x.size());
  kernels().silu({silu.data(), nullptr, count});
  kernels().silu({gated.data(), up.data(), count});
  kernels().gelu_tanh({gelu.data(), nullptr, count});
  for (size_t i = 0; i < x.size(); ++i) {
    const double v = x[i];
    const double wanted_silu = v / (1 + std::exp(-v));
    const double wanted_gelu = 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
    EXPECT_NEAR(silu[i], wanted_silu, 2e-6 * std::max(1.0, std::fabs(v))) << v;
    EXPECT_NEAR(gated[i], wanted_silu * up[i], 2e-6 * std::max(1.0, std::fabs(v))) << v;
    EXPECT_NEAR(gelu[i], wanted_gelu, 2e-6 * std::max(1.0, std::fabs(v))) << v;
  }
}

TEST_P(Kernels, NormsOfRowsThatFillNoRegister) {
  for (const size_t count : {1u, 15u, 16u, 37u, 256u}) {
    const std::vector<float> x = Noise(5, count), weight = Noise(6, count), bias = Noise(7, count);
    std::vector<float> rms(count), layer(count);
    kernels().rms_norm({x.data(), rms.data(), static_cast<int64_t>(count), weight.data(), nullptr, 1e-5f});
    kernels().layer_norm({x.data(), layer.data(), static_cast<int64_t>(count), weight.data(), bias.data(), 1e-5f});
    double square = 0, mean = 0, variance = 0;
    for (const float v : x)
      square += double{v} * v / static_cast<double>(count), mean += double{v} / static_cast<double>(count);
    for (const float v : x) variance += (v - mean) * (v - mean) / static_cast<double>(count);
    for (size_t i = 0; i < count; ++i) {
      EXPECT_NEAR(rms[i], x[i] / std::sqrt(square + 1e-5) * weight[i], 1e-5);
      EXPECT_NEAR(layer[i], (x[i] - mean) / std::sqrt(variance + 1e-5) * weight[i] + bias[i], 1e-4);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, Kernels, testing::ValuesIn(AvailableIsas()));

TEST(PackedMatrixTest, AColumnComesBackAsItWentIn) {
  for (const model::DType dtype : {model::DType::kFloat32, model::DType::kBFloat16}) {
    std::vector<float> weights;
    for (int i = 0; i < 70 * 9; ++i) weights.push_back(static_cast<float>(i % 251));  // Exact in bfloat16.
    const Packed packed(weights, 70, 9, dtype);
    for (int64_t column = 0; column < 70; ++column) {
      std::vector<float> out(9);
      UnpackColumn(packed.matrix, column, out.data());
      EXPECT_EQ(out, std::vector<float>(weights.begin() + column * 9, weights.begin() + (column + 1) * 9));
    }
  }
}

TEST(RopeTest, FrequenciesAndAnglesAreTheReferences) {
  const auto text = model::ReadSmallFile(SourcePath("tests/golden/models/rope.json"), 1 << 20);
  ASSERT_TRUE(text.ok()) << text.status();
  for (const nlohmann::json& one : nlohmann::json::parse(*text)) {
    const auto config = model::ParseDecoderConfig(one.at("config").dump(), std::nullopt);
    ASSERT_TRUE(config.ok()) << config.status();
    const Rope rope(config->rope, config->head_dim);
    const auto frequencies = one.at("frequencies").get<std::vector<float>>();
    ASSERT_EQ(rope.frequencies().size(), frequencies.size());
    for (size_t i = 0; i < frequencies.size(); ++i) {
      // Two units in the last place: the reference takes its power in float.
      EXPECT_NEAR(rope.frequencies()[i], frequencies[i], 2.4e-7f * frequencies[i]) << i << one.at("config");
    }
    for (size_t p = 0; p < one.at("positions").size(); ++p) {
      const int64_t position = one.at("positions")[p].get<int64_t>();
      const auto wanted = one.at("angles")[p].get<std::vector<float>>();
      std::vector<float> angles(wanted.size());
      rope.Angles(position, angles.data());
      for (size_t i = 0; i < wanted.size(); ++i) {
        // What a unit in the last place of the frequency makes of the angle at this position.
        const double slack = 4e-7 + 3.6e-7 * static_cast<double>(position) * frequencies[i % frequencies.size()];
        EXPECT_NEAR(angles[i], wanted[i], slack) << position << " " << i;
      }
    }
  }
}

TEST(RopeTest, AnglesAreAccurateUpToMillions) {
  model::RopeConfig config;
  const Rope rope(config, 2);  // One pair, one radian per position.
  for (const int64_t position : {0, 1, 2, 3, 100, 65537, 1234567, 16777215}) {
    float angles[2];
    rope.Angles(position, angles);
    EXPECT_FLOAT_EQ(angles[0], static_cast<float>(std::cos(static_cast<double>(position))));
    EXPECT_FLOAT_EQ(angles[1], static_cast<float>(std::sin(static_cast<double>(position))));
  }
}

}  // namespace
}  // namespace tandem::worker
