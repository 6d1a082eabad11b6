// The third thing that is done with the tensors of an encoder, beside those of tensor_reader.h: where they lie is noted
// in slices, for an executor that lays its weights out itself.
#ifndef TANDEM_WORKER_MODEL_SLICE_PLANNER_H_
#define TANDEM_WORKER_MODEL_SLICE_PLANNER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/model/safetensors.h"
#include "worker/model/shard_plan.h"

namespace tandem::worker {

// REQUIRES: the tensors were checked. The slices point into `files`.
class SlicePlanner {
 public:
  explicit SlicePlanner(const model::WeightFiles& files) : files_(files) {}

  void Table(const std::string& name, int64_t rows, int64_t columns, MatrixSlice* out) {
    Matrix({name}, rows, columns, out);
  }
  void Table(const std::string& name, int64_t rows, int64_t columns, VectorSlice* out) {
    Vector({name}, rows * columns, out);
  }
  // One row.
  void Vector(const std::vector<std::string>& names, int64_t count, MatrixSlice* out) { Matrix(names, 1, count, out); }
  void Vector(const std::vector<std::string>& names, int64_t count, VectorSlice* out) {
    for (const std::string& name : names) {
      const model::TensorView& view = *files_.Find(name);
      out->parts.push_back({*view.info->dtype, view.data, count});
      out->count += count;
    }
  }
  void Matrix(const std::vector<std::string>& names, int64_t columns, int64_t inner, MatrixSlice* out) {
    out->inner = inner;
    for (const std::string& name : names) {
      const model::TensorView& view = *files_.Find(name);
      out->parts.push_back({*view.info->dtype, view.data, columns, inner, inner, 1});
      out->columns += columns;
    }
  }

 private:
  const model::WeightFiles& files_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_MODEL_SLICE_PLANNER_H_
