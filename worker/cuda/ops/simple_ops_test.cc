// Operators that look at each row or element alone, against plain loops in double.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "worker/cuda/ops/activation.h"
#include "worker/cuda/ops/device_for_test.h"
#include "worker/cuda/ops/embedding.h"
#include "worker/cuda/ops/gather.h"
#include "worker/cuda/ops/norm.h"
#include "worker/cuda/ops/rope.h"
#include "worker/exec/ops/cpu_kernels.h"
#include "worker/exec/ops/rope.h"

namespace tandem::worker::cuda {
namespace {

using testing::ElementsAre;

class SimpleOps : public DeviceTest {};

TEST_F(SimpleOps, EmbeddingsOfThisRanksTokensOnly) {
  for (const model::DType type : kSixteenBits) {
    for (const int32_t hidden : {8, 20, 33, 520}) {
      const size_t width = static_cast<size_t>(hidden);
      const std::vector<float> table = Noise(1, 10 * width, type);
      const std::vector<float> learned = Noise(2, 7 * width, type);
      const OnDevice<uint16_t> table_bits(BitsOf(table, type));
      const OnDevice<float> learned_values(learned);
      const OnDevice<int32_t> tokens({100, 109, 99, 110, -1, 103});
      const OnDevice<int32_t> positions({0, 6, 1, 2, 0, 3});
      for (const bool with_positions : {false, true}) {
        const OnDevice<float> residual(6 * width, -7.0f);
        ASSERT_DONE(Embed({.tokens = tokens.data(),
                           .count = 6,
                           .table = table_bits.data(),
                           .type = type,
                           .first_token = 100,
                           .rows = 10,
                           .hidden = hidden,
                           .learned_positions = with_positions ? learned_values.data() : nullptr,
                           .positions = positions.data(),
                           .residual = residual.data()},
                          stream_));
        const std::vector<float> got = residual.Read();
        const int row_of[] = {0, 9, -1, -1, -1, 3};
        const int position_of[] = {0, 6, 1, 2, -1, 3};
        for (size_t token = 0; token < 6; ++token) {
          for (size_t i = 0; i < width; ++i) {
            float wanted = row_of[token] >= 0 ? table[static_cast<size_t>(row_of[token]) * width + i] : 0.0f;
            if (with_positions && position_of[token] >= 0) {
              wanted += learned[static_cast<size_t>(position_of[token]) * width + i];
            }
            ASSERT_EQ(got[token * width + i], wanted) << token << " " << i;
          }
        }
      }
    }
  }
}

TEST_F(SimpleOps, NormsWithTheirAdditionAndChosenRows) {
  for (const model::Norm norm : {model::Norm::kRms, model::Norm::kLayer}) {
    for (const model::DType type : {model::DType::kBFloat16, model::DType::kFloat16, model::DType::kFloat32}) {
      // The last row with the static arrays fits into unasked shared memory no more.
      for (const int32_t hidden : {1, 31, 32, 36, 260, 1500, 4100, 12288}) {
        const bool with_delta = hidden % 3 != 1;
        const bool chosen = hidden % 2 == 0;
        const size_t width = static_cast<size_t>(hidden);
        const std::vector<float> residual = Noise(3, 4 * width, model::DType::kBFloat16);
        const std::vector<float> delta = Noise(4, 4 * width, model::DType::kBFloat16);
        const std::vector<float> weight = Noise(5, width, model::DType::kBFloat16);
        const std::vector<float> bias = Noise(6, width, model::DType::kBFloat16);
        const std::vector<int32_t> rows = chosen ? std::vector<int32_t>{3, 0} : std::vector<int32_t>{0, 1, 2, 3};
        const OnDevice<float> residual_values(residual), weight_values(weight), bias_values(bias), delta_values(delta);
        const OnDevice<uint16_t> delta_bits(BitsOf(delta, model::DType::kBFloat16));
        const OnDevice<int32_t> row_index(rows);
        const OnDevice<float> output(rows.size() * width, 0.0f);
        const bool delta_is_wide = type == model::DType::kFloat32;
        const void* const delta_data =
            delta_is_wide ? static_cast<const void*>(delta_values.data()) : delta_bits.data();
        ASSERT_DONE(AddNorm({.norm = norm,
                             .residual = residual_values.data(),
                             .delta = with_delta ? delta_data : nullptr,
                             .delta_type = delta_is_wide ? model::DType::kFloat32 : model::DType::kBFloat16,
                             .weight = weight_values.data(),
                             .bias = norm == model::Norm::kLayer ? bias_values.data() : nullptr,
                             .epsilon = 1e-5f,
                             .row_index = chosen ? row_index.data() : nullptr,
                             .output = output.data(),
                             .type = type,
                             .rows = static_cast<int64_t>(rows.size()),
                             .hidden = hidden},
                            stream_));
        const std::vector<float> after = residual_values.Read();
        const std::vector<float> raw = output.Read();
        for (size_t row = 0; row < 4; ++row) {
          const bool touched = std::count(rows.begin(), rows.end(), static_cast<int32_t>(row)) > 0;
          for (size_t i = 0; i < width; ++i) {
            const float wanted = residual[row * width + i] + (touched && with_delta ? delta[row * width + i] : 0.0f);
            ASSERT_EQ(after[row * width + i], wanted);
          }
        }
        for (size_t r = 0; r < rows.size(); ++r) {
          const float* const x = after.data() + static_cast<size_t>(rows[r]) * width;
          double mean = 0, square = 0;
          if (norm == model::Norm::kLayer) {
            for (size_t i = 0; i < width; ++i) mean += x[i] / static_cast<double>(width);
          }
          for (size_t i = 0; i < width; ++i) square += (x[i] - mean) * (x[i] - mean) / static_cast<double>(width);
          for (size_t i = 0; i < width; ++i) {
            const double scaled = (x[i] - mean) / std::sqrt(square + 1e-5) * weight[i];
            const double wanted = scaled + (norm == model::Norm::kLayer ? bias[i] : 0);
            float got;
            if (type == model::DType::kFloat32) {
              got = raw[r * width + i];
            } else {
              got = FromBits(reinterpret_cast<const uint16_t*>(raw.data())[r * width + i], type);
            }
            // One rounding of the result, and of the mean of some thousand float32 values.
            ASSERT_NEAR(got, wanted, RoundingOf(type) * std::fabs(wanted) + 4e-5) << hidden << " " << r << " " << i;
          }
        }
      }
    }
  }
}

double Exact(ActivationKind kind, double x) {
  switch (kind) {
    case ActivationKind::kSilu:
      return x / (1 + std::exp(-x));
    case ActivationKind::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case ActivationKind::kGeluErf:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case ActivationKind::kQuickGelu:
      return x / (1 + std::exp(-1.702 * x));
    case ActivationKind::kRelu:
      return std::max(x, 0.0);
    case ActivationKind::kTanh:
      return std::tanh(x);
  }
  return 0;
}

TEST_F(SimpleOps, ActivationsGatedAndAlone) {
  for (const model::DType type : kSixteenBits) {
    for (const ActivationKind kind : {ActivationKind::kSilu, ActivationKind::kGeluTanh, ActivationKind::kGeluErf,
                                      ActivationKind::kQuickGelu, ActivationKind::kRelu, ActivationKind::kTanh}) {
      for (const int64_t inner : {1, 44, 301}) {
        for (const bool gated : {false, true}) {
          const size_t width = static_cast<size_t>(inner) * (gated ? 2 : 1);
          std::vector<float> input = Noise(7, 3 * width, type);
          for (size_t i = 0; i < input.size(); i += 2) {
            input[i] = FromBits(BitsOf(input[i] * static_cast<float>(1 + i % 90), type), type);  // Far out too.
          }
          const OnDevice<uint16_t> bits(BitsOf(input, type));
          const OnDevice<uint16_t> output(3 * static_cast<size_t>(inner), 0);
          ASSERT_DONE(Activate({.kind = kind,
                                .gated = gated,
                                .input = bits.data(),
                                .output = output.data(),
                                .type = type,
                                .rows = 3,
                                .inner = inner},
                               stream_));
          const std::vector<uint16_t> got = output.Read();
          for (size_t i = 0; i < got.size(); ++i) {
            const size_t row = i / static_cast<size_t>(inner), column = i % static_cast<size_t>(inner);
            double wanted = Exact(kind, input[row * width + column]);
            if (gated) wanted *= input[row * width + static_cast<size_t>(inner) + column];
            // One rounding of the result; __expf is good to some units in the last place of its float32 argument.
            ASSERT_NEAR(FromBits(got[i], type), wanted, 1.01 * RoundingOf(type) * std::fabs(wanted) + 1e-5);
          }
        }
      }
    }
  }
}

TEST_F(SimpleOps, ABiasIsAddedWithinItsColumns) {
  for (const model::DType type : {model::DType::kBFloat16, model::DType::kFloat16, model::DType::kFloat32}) {
    for (const auto& [columns, stride] : {std::pair<size_t, size_t>{7, 10}, {8, 12}, {8, 9}, {1028, 1028}}) {
      const bool wide = type == model::DType::kFloat32;
      const std::vector<float> values = Noise(8, 3 * stride, model::DType::kBFloat16);
      const std::vector<float> bias = Noise(9, columns, model::DType::kBFloat16);
      const OnDevice<uint16_t> bits(wide ? std::vector<uint16_t>() : BitsOf(values, type));
      const OnDevice<float> floats(wide ? values : std::vector<float>());
      const OnDevice<float> bias_values(bias);
      ASSERT_DONE(AddBias({.values = wide ? static_cast<void*>(floats.data()) : bits.data(),
                           .stride = static_cast<int64_t>(stride),
                           .type = type,
                           .bias = bias_values.data(),
                           .rows = 3,
                           .columns = static_cast<int64_t>(columns)},
                          stream_));
      const std::vector<float> got = wide ? floats.Read() : FromBits(bits.Read(), type);
      for (size_t i = 0; i < 3 * stride; ++i) {
        const float wanted = values[i] + (i % stride < columns ? bias[i % stride] : 0.0f);
        ASSERT_EQ(got[i], wide ? wanted : FromBits(BitsOf(wanted, type), type)) << columns << " of " << stride;
      }
    }
  }
}

// Rows of any width, in the widest pieces that they allow.
TEST_F(SimpleOps, RowsAreGathered) {
  for (const int64_t columns : {3, 4, 8, 1036}) {
    const auto width = static_cast<size_t>(columns);
    std::vector<float> rows(3 * width);
    std::vector<uint16_t> half_rows(3 * width);
    for (size_t i = 0; i < rows.size(); ++i) {
      rows[i] = static_cast<float>(i + 1);
      half_rows[i] = static_cast<uint16_t>(i + 1);
    }
    const OnDevice<int32_t> index({2, -1, 0});
    const OnDevice<float> input(rows), output(3 * width, 5.0f);
    const OnDevice<uint16_t> half_input(half_rows), half_output(3 * width, 5);
    GatherArgs args{.input = input.data(),
                    .row_index = index.data(),
                    .output = output.data(),
                    .type = model::DType::kFloat32,
                    .rows = 3,
                    .columns = columns};
    ASSERT_DONE(GatherRows(args, stream_));
    args.input = half_input.data();
    args.output = half_output.data();
    args.type = model::DType::kFloat16;
    ASSERT_DONE(GatherRows(args, stream_));
    const std::vector<float> got = output.Read();
    const std::vector<uint16_t> half_got = half_output.Read();
    for (size_t i = 0; i < width; ++i) {
      for (size_t row = 0; row < 3; ++row) {
        const size_t wanted = row == 0 ? 2 * width + i + 1 : row == 1 ? 0 : i + 1;
        ASSERT_EQ(got[row * width + i], static_cast<float>(wanted)) << columns << ": " << row << ", " << i;
        ASSERT_EQ(half_got[row * width + i], wanted) << columns << ": " << row << ", " << i;
      }
    }
  }
}

TEST_F(SimpleOps, AnglesAreThoseOfTheCpu) {
  model::RopeConfig config;
  config.scaling = model::RopeScaling::kYarn;
  config.factor = 4;
  config.original_max_positions = 64;
  config.attention_factor = 1.25;
  const std::vector<int32_t> positions = {0, 1, 17, 255, 65537, 1000003};
  for (const int32_t head_dim : {8, 12, 64}) {
    const Rope rope(config, head_dim);
    const OnDevice<float> frequencies(rope.frequencies());
    const OnDevice<int32_t> device_positions(positions);
    const OnDevice<float> angles(positions.size() * static_cast<size_t>(head_dim), 0.0f);
    ASSERT_DONE(RopeAngles({.frequencies = frequencies.data(),
                            .magnitude = 1.25f,
                            .positions = device_positions.data(),
                            .tokens = static_cast<int64_t>(positions.size()),
                            .head_dim = head_dim,
                            .angles = angles.data()},
                           stream_));
    const std::vector<float> got = angles.Read();
    for (size_t p = 0; p < positions.size(); ++p) {
      std::vector<float> wanted(static_cast<size_t>(head_dim));
      rope.Angles(positions[p], wanted.data());
      for (size_t i = 0; i < wanted.size(); ++i) {
        EXPECT_EQ(got[p * wanted.size() + i], wanted[i]) << positions[p] << " " << i;
      }
    }
  }
}

TEST_F(SimpleOps, QueriesTurnAndKeysAndValuesGoToTheirSlots) {
  for (const model::DType type : kSixteenBits) {
    for (const int32_t head_dim : {7, 8, 12, 16, 66}) {
      for (const auto& [rotary, normed] : {std::pair(true, true), std::pair(true, false), std::pair(false, false)}) {
        if (rotary && head_dim % 2 != 0) continue;
        constexpr int32_t kHeads = 6, kKvHeads = 2;
        const size_t width = static_cast<size_t>((kHeads + 2 * kKvHeads) * head_dim);
        const std::vector<int32_t> slots = {33, -1, 0, 47};  // blocks 2, none, 0, 2
        const std::vector<int32_t> positions = {5, 0, 16, 31};
        const std::vector<float> qkv = Noise(10, slots.size() * width, type);
        const Rope rope(model::RopeConfig(), head_dim);
        std::vector<float> angles(slots.size() * static_cast<size_t>(head_dim));
        for (size_t t = 0; t < slots.size(); ++t) {
          rope.Angles(positions[t], angles.data() + t * static_cast<size_t>(head_dim));
        }
        PagedKv kv{nullptr, type, kKvHeads, head_dim};
        const OnDevice<uint16_t> pool(static_cast<size_t>(3 * kv.block_stride()), 0x1234);
        kv.layer = pool.data();
        const OnDevice<uint16_t> bits(BitsOf(qkv, type));
        const OnDevice<float> device_angles(angles);
        const OnDevice<int32_t> device_slots(slots);
        const std::vector<float> norms = Noise(11, 2 * static_cast<size_t>(head_dim), model::DType::kFloat32);
        const OnDevice<float> device_norms(norms);
        ASSERT_DONE(CacheKv({.qkv = bits.data(),
                             .qkv_stride = static_cast<int64_t>(width),
                             .tokens = static_cast<int64_t>(slots.size()),
                             .heads = kHeads,
                             .angles = rotary ? device_angles.data() : nullptr,
                             .query_norm = normed ? device_norms.data() : nullptr,
                             .key_norm = normed ? device_norms.data() + head_dim : nullptr,
                             .norm_epsilon = 1e-3f,
                             .slots = device_slots.data(),
                             .kv = kv},
                            stream_));
        std::vector<uint16_t> wanted_pool(static_cast<size_t>(3 * kv.block_stride()), 0x1234);
        std::vector<float> turned = qkv;
        for (size_t t = 0; t < slots.size(); ++t) {
          if (slots[t] < 0) continue;
          float* const row = turned.data() + t * width;
          for (int32_t head = 0; normed && head < kHeads + kKvHeads; ++head) {
            float* const at = row + head * head_dim;
            kGenericKernels.rms_norm({at, at, head_dim, norms.data() + (head < kHeads ? 0 : head_dim), nullptr, 1e-3f});
          }
          if (rotary) rope.Apply(angles.data() + t * static_cast<size_t>(head_dim), kHeads + kKvHeads, row);
          for (int32_t head = 0; head < kKvHeads; ++head) {
            for (int32_t i = 0; i < kv.padded(); ++i) {
              const int64_t place =
                  slots[t] / 16 * kv.block_stride() + head * kv.head_stride() + slots[t] % 16 * kv.padded() + i;
              const float key = i < head_dim ? row[(kHeads + head) * head_dim + i] : 0.0f;
              const float value = i < head_dim ? row[(kHeads + kKvHeads + head) * head_dim + i] : 0.0f;
              wanted_pool[static_cast<size_t>(place)] = BitsOf(key, type);
              wanted_pool[static_cast<size_t>(place + 16 * kv.padded())] = BitsOf(value, type);
            }
          }
        }
        const std::vector<float> got_pool = FromBits(pool.Read(), type);
        const std::vector<float> got = FromBits(bits.Read(), type);
        for (size_t i = 0; i < got_pool.size(); ++i) {
          const float wanted = FromBits(wanted_pool[i], type);
          // A fused product may round the other way.
          ASSERT_NEAR(got_pool[i], wanted, 2.1 * RoundingOf(type) * std::fabs(wanted) + 1e-6) << i;
        }
        for (size_t i = 0; i < got.size(); ++i) {
          const bool query = i % width < static_cast<size_t>(kHeads * head_dim);
          const float wanted = query ? turned[i] : qkv[i];
          ASSERT_NEAR(got[i], wanted, 1.1 * RoundingOf(type) * std::fabs(wanted) + 1e-6) << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace tandem::worker::cuda
