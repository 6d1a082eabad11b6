// The element types that model files use and that executors store.
#ifndef TANDEM_BASE_MODEL_DTYPE_H_
#define TANDEM_BASE_MODEL_DTYPE_H_

#include <bit>
#include <cstdint>

namespace tandem::model {

enum class DType : uint8_t { kFloat32, kBFloat16, kFloat16 };

constexpr int64_t BytesOf(DType type) { return type == DType::kFloat32 ? 4 : 2; }

// The name as config.json and the configuration files write it.
constexpr const char* NameOf(DType type) {
  switch (type) {
    case DType::kFloat32:
      return "float32";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kFloat16:
      return "float16";
  }
  return "";
}

inline float FloatFromBFloat16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

// Rounds to nearest, ties to even. A NaN stays a NaN.
inline uint16_t BFloat16FromFloat(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline float FloatFromFloat16(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu;
  const uint32_t mantissa = half & 0x3ffu;
  if (exponent == 0) {  // Zero and the subnormals, which are multiples of 2^-24.
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  if (exponent == 0x1fu) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

}  // namespace tandem::model

#endif  // TANDEM_BASE_MODEL_DTYPE_H_
