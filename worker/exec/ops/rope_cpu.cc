#include <algorithm>
#include <cmath>

#include "worker/exec/ops/rope.h"

namespace tandem::worker {
namespace {

constexpr double kPi = 3.14159265358979323846;

// Long waves are stretched by the factor, short ones kept, those between are blended.
float Llama3Frequency(const model::RopeConfig& config, float frequency) {
  const double wavelength = 2 * kPi / frequency;
  if (wavelength > config.original_max_positions / config.low_freq_factor) {
    return static_cast<float>(frequency / config.factor);
  }
  if (wavelength < config.original_max_positions / config.high_freq_factor) return frequency;
  const double smooth = (config.original_max_positions / wavelength - config.low_freq_factor) /
                        (config.high_freq_factor - config.low_freq_factor);
  return static_cast<float>((1 - smooth) * frequency / config.factor + smooth * frequency);
}

// The pair whose wave turns `rotations` times over the original context.
double YarnPair(const model::RopeConfig& config, int32_t head_dim, double rotations) {
  return head_dim * std::log(config.original_max_positions / (rotations * 2 * kPi)) / (2 * std::log(config.theta));
}

float YarnFrequency(const model::RopeConfig& config, int32_t head_dim, int32_t pair, float frequency) {
  double low = YarnPair(config, head_dim, config.beta_fast);
  double high = YarnPair(config, head_dim, config.beta_slow);
  if (config.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, head_dim - 1.0);
  if (low == high) high += 0.001;
  const double ramp = std::clamp((pair - low) / (high - low), 0.0, 1.0);
  return static_cast<float>(frequency / config.factor * ramp + frequency * (1 - ramp));
}

float Frequency(const model::RopeConfig& config, int32_t head_dim, int32_t pair) {
  const float exponent = static_cast<float>(2 * pair) / static_cast<float>(head_dim);
  const float frequency = 1.0f / static_cast<float>(std::pow(config.theta, static_cast<double>(exponent)));
  switch (config.scaling) {
    case model::RopeScaling::kNone:
      return frequency;
    case model::RopeScaling::kLinear:
      return static_cast<float>(frequency / config.factor);
    case model::RopeScaling::kLlama3:
      return Llama3Frequency(config, frequency);
    case model::RopeScaling::kYarn:
      return YarnFrequency(config, head_dim, pair, frequency);
  }
  return frequency;
}

// Sine and cosine for 0 <= angle < 2^26: reduced by multiples of pi/2 in three parts (the first two of 24 bits, so that
// their products are exact), then the Taylor sums, whose next term is below 1e-16.
void SinCos(double angle, double* sine, double* cosine) {
  const int64_t quarter = static_cast<int64_t>(angle * (2 / kPi) + 0.5);
  const double n = static_cast<double>(quarter);
  const double r = ((angle - n * 0x1.921fb6p+0) - n * -0x1.777a5cp-25) - n * -0x1.ee59d9cceba40p-50;
  const double square = r * r;
  double s = 0;
  double c = 0;
  for (int k = 8; k >= 1; --k) {
    s = (1 + s) * -square / ((2 * k) * (2 * k + 1));
    c = (1 + c) * -square / ((2 * k - 1) * (2 * k));
  }
  s = r * (1 + s);
  c = 1 + c;
  switch (quarter & 3) {
    case 0:
      *sine = s, *cosine = c;
      break;
    case 1:
      *sine = c, *cosine = -s;
      break;
    case 2:
      *sine = -s, *cosine = -c;
      break;
    default:
      *sine = -c, *cosine = s;
  }
}

}  // namespace

Rope::Rope(const model::RopeConfig& config, int32_t head_dim)
    : head_dim_(head_dim), magnitude_(static_cast<float>(config.attention_factor)) {
  for (int32_t pair = 0; pair < head_dim / 2; ++pair) frequencies_.push_back(Frequency(config, head_dim, pair));
}

void Rope::Angles(int64_t position, float* angles) const {
  const int32_t half = head_dim_ / 2;
  for (int32_t i = 0; i < half; ++i) {
    // The reference multiplies in float; at large positions the rounding of this product is part of the model.
    const float angle = static_cast<float>(position) * frequencies_[static_cast<size_t>(i)];
    double sine, cosine;
    SinCos(angle, &sine, &cosine);
    angles[i] = static_cast<float>(cosine) * magnitude_;
    angles[half + i] = static_cast<float>(sine) * magnitude_;
  }
}

void Rope::Apply(const float* angles, int64_t heads, float* vectors) const {
  const int32_t half = head_dim_ / 2;
  const float* const sines = angles + half;
  for (int64_t head = 0; head < heads; ++head, vectors += head_dim_) {
    for (int32_t i = 0; i < half; ++i) {
      const float a = vectors[i];
      const float b = vectors[half + i];
      vectors[i] = a * angles[i] - b * sines[i];
      vectors[half + i] = b * angles[i] + a * sines[i];
    }
  }
}

}  // namespace tandem::worker
