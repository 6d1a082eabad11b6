#include "worker/model/packed_matrix.h"

#include <glog/logging.h>

#include <algorithm>
#include <cstring>

namespace tandem::worker {
namespace {

using model::DType;
using model::kPanelColumns;

float LoadFloat(DType dtype, const uint8_t* at) {
  if (dtype == DType::kFloat32) {
    float value;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, at, sizeof(bits));
  return dtype == DType::kBFloat16 ? model::FloatFromBFloat16(bits) : model::FloatFromFloat16(bits);
}

uint16_t LoadBFloat16(DType dtype, const uint8_t* at) {
  if (dtype != DType::kBFloat16) return model::BFloat16FromFloat(LoadFloat(dtype, at));
  uint16_t bits;
  std::memcpy(&bits, at, sizeof(bits));
  return bits;
}

int64_t PaddedInner(const PackedMatrix& matrix) {
  return matrix.dtype == DType::kBFloat16 ? model::RoundUp(matrix.inner, 2) : matrix.inner;
}

// Index of element (column, k) in the packed order.
int64_t PackedIndex(const PackedMatrix& matrix, int64_t column, int64_t k) {
  const int64_t panel = column / kPanelColumns * kPanelColumns * PaddedInner(matrix);
  const int64_t lane = column % kPanelColumns;
  if (matrix.dtype == DType::kFloat32) return panel + k * kPanelColumns + lane;
  return panel + (k / 2) * 2 * kPanelColumns + lane * 2 + k % 2;
}

}  // namespace

void PackColumns(const MatrixSource& source, int64_t first_column, PackedMatrix* matrix) {
  CHECK_EQ(source.inner, matrix->inner);
  CHECK_LE(first_column + source.columns, matrix->columns);
  const int64_t element = model::BytesOf(source.dtype);
  // Squares of this size keep both sides in the first cache while one of them is walked across.
  constexpr int64_t kBlock = 64;
  for (int64_t c0 = 0; c0 < source.columns; c0 += kBlock) {
    const int64_t c1 = std::min(source.columns, c0 + kBlock);
    for (int64_t k0 = 0; k0 < source.inner; k0 += kBlock) {
      const int64_t k1 = std::min(source.inner, k0 + kBlock);
      for (int64_t c = c0; c < c1; ++c) {
        const uint8_t* at = source.data + (c * source.column_stride + k0 * source.inner_stride) * element;
        for (int64_t k = k0; k < k1; ++k, at += source.inner_stride * element) {
          const int64_t index = PackedIndex(*matrix, first_column + c, k);
          if (matrix->dtype == DType::kFloat32) {
            static_cast<float*>(matrix->data)[index] = LoadFloat(source.dtype, at);
          } else {
            static_cast<uint16_t*>(matrix->data)[index] = LoadBFloat16(source.dtype, at);
          }
        }
      }
    }
  }
}

void UnpackColumn(const PackedMatrix& matrix, int64_t column, float* out) {
  for (int64_t k = 0; k < matrix.inner; ++k) {
    const int64_t index = PackedIndex(matrix, column, k);
    out[k] = matrix.dtype == DType::kFloat32
                 ? static_cast<const float*>(matrix.data)[index]
                 : model::FloatFromBFloat16(static_cast<const uint16_t*>(matrix.data)[index]);
  }
}

void ConvertToFloat(DType dtype, const uint8_t* source, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = LoadFloat(dtype, source + i * model::BytesOf(dtype));
}

}  // namespace tandem::worker
