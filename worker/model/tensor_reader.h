// The two things that are done with the tensors of an encoder: first their names and shapes are checked, then they are
// copied into one arena. Both walk the same list, a template over one of these two classes:
//
//   Table(name, rows, columns, out)            float32, row by row
//   Vector(names, count of each, out)          float32, one behind the other
//   Matrix(names, columns of each, inner, out) packed for the kernels, side by side
//
// A tensor's shape in the file may have more sizes than two, as that of a convolution: what counts is that the first is
// the columns and the rest multiply to the inner size.
#ifndef TANDEM_WORKER_MODEL_TENSOR_READER_H_
#define TANDEM_WORKER_MODEL_TENSOR_READER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/model/dtype.h"
#include "base/model/safetensors.h"
#include "worker/model/memory_arena.h"
#include "worker/model/packed_matrix.h"

namespace tandem::worker {

// Takes no memory.
class TensorChecker {
 public:
  explicit TensorChecker(const model::WeightFiles& files) : files_(files) {}

  void Table(const std::string& name, int64_t rows, int64_t columns, const float**) { Check(name, {rows, columns}); }
  void Vector(const std::vector<std::string>& names, int64_t count, const float**) {
    for (const std::string& name : names) Check(name, {count});
  }
  void Matrix(const std::vector<std::string>& names, int64_t columns, int64_t inner, PackedMatrix*) {
    for (const std::string& name : names) Check(name, {columns, inner});
  }

  // The first tensor that is missing or not as it should be.
  const absl::Status& status() const { return status_; }

 private:
  void Check(const std::string& name, const std::vector<int64_t>& shape);

  const model::WeightFiles& files_;
  absl::Status status_;
};

// REQUIRES: the tensors were checked, and `arena` has room for them.
class TensorLoader {
 public:
  TensorLoader(const model::WeightFiles& files, model::DType stored, MemoryArena* arena)
      : files_(files), stored_(stored), arena_(arena) {}

  void Table(const std::string& name, int64_t rows, int64_t columns, const float** out) {
    Vector({name}, rows * columns, out);
  }
  void Vector(const std::vector<std::string>& names, int64_t count, const float** out);
  void Matrix(const std::vector<std::string>& names, int64_t columns, int64_t inner, PackedMatrix* out);

  int64_t vector_bytes() const { return vector_bytes_; }  // tables, norms, biases
  int64_t packed_bytes() const { return packed_bytes_; }  // matrices

 private:
  const model::WeightFiles& files_;
  const model::DType stored_;
  MemoryArena* const arena_;
  int64_t vector_bytes_ = 0;
  int64_t packed_bytes_ = 0;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_MODEL_TENSOR_READER_H_
