// A weight matrix in the order in which the kernels read it.
//
// Outputs ("columns") stand in panels of 64, and a panel runs over all inputs, so that a product streams it front to
// back once. float32: for each input k, 64 weights. bfloat16: for each pair of inputs (2j, 2j+1), 64 pairs of weights;
// a pair fills 32 bits, from which a shift makes the first float and a mask the second. The last panel, and an odd last
// input, are filled with zeros.
//
// The layout is the same for every instruction set. A view; the memory belongs to the model's arena.
#ifndef TANDEM_WORKER_MODEL_PACKED_MATRIX_H_
#define TANDEM_WORKER_MODEL_PACKED_MATRIX_H_

#include <cstdint>

#include "base/model/dtype.h"
#include "base/model/model_memory.h"

namespace tandem::worker {

struct PackedMatrix {
  model::DType dtype = model::DType::kFloat32;  // kFloat32 or kBFloat16
  int64_t columns = 0;
  int64_t inner = 0;
  void* data = nullptr;

  int64_t panels() const { return model::RoundUp(columns, model::kPanelColumns) / model::kPanelColumns; }
  int64_t bytes() const { return model::PackedBytes(columns, inner, dtype); }
};

// Where the weights come from: `columns` x `inner` elements, element (c, k) at source[c * column_stride + k *
// inner_stride].
struct MatrixSource {
  model::DType dtype = model::DType::kFloat32;
  const uint8_t* data = nullptr;  // any alignment
  int64_t columns = 0;
  int64_t inner = 0;
  int64_t column_stride = 0;  // in elements
  int64_t inner_stride = 0;
};

// Writes the source's columns to [first_column, first_column + source.columns) of `matrix`, converted to its type.
void PackColumns(const MatrixSource& source, int64_t first_column, PackedMatrix* matrix);

// Reads one column (of an embedding: the vector of one token) as floats.
void UnpackColumn(const PackedMatrix& matrix, int64_t column, float* out);

// Converts `count` consecutive elements.
void ConvertToFloat(model::DType dtype, const uint8_t* source, int64_t count, float* out);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_MODEL_PACKED_MATRIX_H_
