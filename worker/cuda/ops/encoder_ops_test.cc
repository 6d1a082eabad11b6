// What encoders add to the operators: segments, norms behind their blocks, pooling, pictures.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "worker/cuda/ops/device_for_test.h"
#include "worker/cuda/ops/embedding.h"
#include "worker/cuda/ops/norm.h"
#include "worker/cuda/ops/patches.h"
#include "worker/cuda/ops/pool.h"

namespace tandem::worker::cuda {
namespace {

class EncoderOps : public DeviceTest {};

TEST_F(EncoderOps, ASegmentIsAddedToWordAndPosition) {
  const model::DType type = model::DType::kFloat16;
  for (const int32_t hidden : {8, 33}) {
    const size_t width = static_cast<size_t>(hidden);
    const std::vector<float> words = Noise(1, 5 * width, type), positions = Noise(2, 4 * width, type),
                             segments = Noise(3, 2 * width, type);
    const OnDevice<uint16_t> word_bits(BitsOf(words, type));
    const OnDevice<float> position_values(positions), segment_values(segments), residual(3 * width, -7.0f);
    const OnDevice<int32_t> tokens({4, 0, 2}), position({0, 1, 3}), segment({0, 1, 1});
    ASSERT_DONE(Embed({.tokens = tokens.data(),
                       .count = 3,
                       .table = word_bits.data(),
                       .type = type,
                       .rows = 5,
                       .hidden = hidden,
                       .learned_positions = position_values.data(),
                       .positions = position.data(),
                       .segment_table = segment_values.data(),
                       .segments = segment.data(),
                       .residual = residual.data()},
                      stream_));
    const std::vector<float> got = residual.Read();
    const size_t word_of[] = {4, 0, 2}, position_of[] = {0, 1, 3}, segment_of[] = {0, 1, 1};
    for (size_t t = 0; t < 3; ++t) {
      for (size_t i = 0; i < width; ++i) {
        EXPECT_FLOAT_EQ(got[t * width + i], words[word_of[t] * width + i] + positions[position_of[t] * width + i] +
                                                segments[segment_of[t] * width + i]);
      }
    }
  }
}

TEST_F(EncoderOps, ANormBehindItsBlockGoesOnWithWhatItMade) {
  for (const int32_t hidden : {33, 64}) {
    const size_t width = static_cast<size_t>(hidden);
    const std::vector<float> values = Noise(4, 2 * width, model::DType::kBFloat16);
    const std::vector<float> weight = Noise(5, width, model::DType::kBFloat16);
    const OnDevice<float> residual(values), weight_values(weight);
    const OnDevice<uint16_t> output(2 * width, 0);
    ASSERT_DONE(AddNorm({.norm = model::Norm::kLayer,
                         .residual = residual.data(),
                         .weight = weight_values.data(),
                         .epsilon = 1e-5f,
                         .output = output.data(),
                         .type = model::DType::kFloat16,
                         .normed_residual = true,
                         .rows = 2,
                         .hidden = hidden},
                        stream_));
    const std::vector<float> after = residual.Read();
    const std::vector<uint16_t> bits = output.Read();
    for (size_t row = 0; row < 2; ++row) {
      double mean = 0, square = 0;
      for (size_t i = 0; i < width; ++i) mean += values[row * width + i] / static_cast<double>(width);
      for (size_t i = 0; i < width; ++i)
        square += std::pow(values[row * width + i] - mean, 2) / static_cast<double>(width);
      for (size_t i = 0; i < width; ++i) {
        const size_t at = row * width + i;
        EXPECT_NEAR(after[at], (values[at] - mean) / std::sqrt(square + 1e-5) * weight[i], 1e-5);
        EXPECT_EQ(bits[at], BitsOf(after[at], model::DType::kFloat16)) << "both are the same numbers";
      }
    }
  }
}

TEST_F(EncoderOps, EveryPoolingOfTextsOfAnyLength) {
  for (const int32_t hidden : {3, 300}) {
    const size_t width = static_cast<size_t>(hidden);
    const std::vector<int32_t> begin = {0, 1, 6, 40};
    const std::vector<float> states = Noise(6, 40 * width, model::DType::kBFloat16);
    const OnDevice<float> device_states(states);
    const OnDevice<int32_t> device_begin(begin);
    for (const model::Pooling pooling :
         {model::Pooling::kMean, model::Pooling::kFirst, model::Pooling::kLast, model::Pooling::kMax}) {
      for (const bool normalize : {false, true}) {
        const OnDevice<float> output(3 * width, -9.0f);
        ASSERT_DONE(Pool({.states = device_states.data(),
                          .token_begin = device_begin.data(),
                          .texts = 3,
                          .hidden = hidden,
                          .pooling = pooling,
                          .normalize = normalize,
                          .output = output.data()},
                         stream_));
        const std::vector<float> got = output.Read();
        for (size_t text = 0; text < 3; ++text) {
          const size_t first = static_cast<size_t>(begin[text]), last = static_cast<size_t>(begin[text + 1]) - 1;
          std::vector<double> wanted(width);
          double square = 0;
          for (size_t i = 0; i < width; ++i) {
            double sum = 0, most = -1e9;
            for (size_t t = first; t <= last; ++t) {
              sum += states[t * width + i];
              most = std::max<double>(most, states[t * width + i]);
            }
            wanted[i] = pooling == model::Pooling::kMean    ? sum / static_cast<double>(last - first + 1)
                        : pooling == model::Pooling::kMax   ? most
                        : pooling == model::Pooling::kFirst ? states[first * width + i]
                                                            : states[last * width + i];
            square += wanted[i] * wanted[i];
          }
          for (size_t i = 0; i < width; ++i) {
            EXPECT_NEAR(got[text * width + i], wanted[i] / (normalize ? std::sqrt(square) : 1), 1e-5);
          }
        }
      }
    }
  }
}

TEST_F(EncoderOps, VectorsOfOneStateEachGoToTheirPlaces) {
  constexpr size_t kWidth = 24;
  const std::vector<float> states = Noise(7, 3 * kWidth, model::DType::kFloat16);
  const OnDevice<float> device_states(states), output(5 * kWidth, -9.0f);
  const std::vector<int32_t> place_of = {4, 0, 2};
  const OnDevice<int32_t> places(place_of);
  ASSERT_DONE(Pool({.states = device_states.data(),
                    .texts = 3,
                    .hidden = kWidth,
                    .pooling = model::Pooling::kFirst,
                    .places = places.data(),
                    .output = output.data()},
                   stream_));
  std::vector<float> wanted(5 * kWidth, -9.0f);
  for (size_t t = 0; t < 3; ++t) {
    std::copy_n(states.begin() + static_cast<std::ptrdiff_t>(t * kWidth), kWidth,
                wanted.begin() + place_of[t] * static_cast<std::ptrdiff_t>(kWidth));
  }
  EXPECT_EQ(output.Read(), wanted) << "rows that are nobody's place are left alone";
}

// The twin of ClipEncoder::CutPatches on the CPU, of sizes that chance picks: patches of one pixel, of all pixels, of
// odd sides, and sums that are no multiple of a block.
TEST_F(EncoderOps, PicturesAreCutIntoPatches) {
  std::mt19937 random(11);
  for (int turn = 0; turn < 24; ++turn) {
    const model::DType type = kSixteenBits[turn % 2];
    const int32_t patch = static_cast<int32_t>(1 + random() % 9), grid = static_cast<int32_t>(1 + random() % 5);
    const int32_t side = patch * grid, images = static_cast<int32_t>(1 + random() % 3);
    const size_t values = static_cast<size_t>(3 * patch * patch);
    std::vector<uint8_t> pixels(static_cast<size_t>(images * side * side * 3));
    for (uint8_t& byte : pixels) byte = static_cast<uint8_t>(random());
    const std::vector<float> colours = Noise(static_cast<uint32_t>(turn), 3 * 256, type);
    std::vector<uint16_t> wanted;
    for (int32_t image = 0; image < images; ++image) {
      wanted.insert(wanted.end(), values, 0);  // the class token's row
      for (int32_t top = 0; top < side; top += patch) {
        for (int32_t left = 0; left < side; left += patch) {
          for (int32_t channel = 0; channel < 3; ++channel) {
            for (int32_t y = top; y < top + patch; ++y) {
              for (int32_t x = left; x < left + patch; ++x) {
                const uint8_t byte = pixels[static_cast<size_t>(((image * side + y) * side + x) * 3 + channel)];
                wanted.push_back(BitsOf(colours[static_cast<size_t>(channel * 256 + byte)], type));
              }
            }
          }
        }
      }
    }
    const OnDevice<uint8_t> device_pixels(pixels);
    const OnDevice<float> device_colours(colours);
    const OnDevice<uint16_t> output(wanted.size(), 0x7fff);
    ASSERT_DONE(CutPatches({.pixels = device_pixels.data(),
                            .images = images,
                            .side = side,
                            .patch = patch,
                            .colours = device_colours.data(),
                            .output = output.data(),
                            .type = type},
                           stream_));
    ASSERT_EQ(output.Read(), wanted) << images << " of " << side << " cut by " << patch;
  }
  EXPECT_THAT(CutPatches({.images = 1, .side = 2, .patch = 1, .type = model::DType::kFloat32}, stream_).message(),
              testing::HasSubstr("CutPatches has no kernel"));
}

TEST_F(EncoderOps, AVectorOfNoLengthStaysOne) {
  const OnDevice<float> states(4, 0.0f), output(4, 1.0f);
  const OnDevice<int32_t> begin(std::vector<int32_t>{0, 1});
  ASSERT_DONE(Pool({.states = states.data(),
                    .token_begin = begin.data(),
                    .texts = 1,
                    .hidden = 4,
                    .normalize = true,
                    .output = output.data()},
                   stream_));
  EXPECT_THAT(output.Read(), testing::Each(0.0f));
}

}  // namespace
}  // namespace tandem::worker::cuda
