#include "worker/model/encoder_plan.h"

#include <string>

#include "worker/model/encoder_tensors.h"
#include "worker/model/encoder_weights.h"

namespace tandem::worker {
namespace {

class Planner {
 public:
  explicit Planner(const model::WeightFiles& files) : files_(files) {}

  void Table(const std::string& name, int64_t rows, int64_t columns, MatrixSlice* out) {
    Matrix({name}, rows, columns, out);
  }
  void Table(const std::string& name, int64_t rows, int64_t columns, VectorSlice* out) {
    Vector({name}, rows * columns, out);
  }
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

}  // namespace

absl::StatusOr<EncoderPlan> PlanEncoder(const model::EncoderConfig& config, const model::WeightFiles& files) {
  if (absl::Status checked = CheckEncoderWeights(config, files); !checked.ok()) return checked;
  EncoderPlan plan;
  Planner planner(files);
  VisitEncoderTensors(config, files, &plan, planner);
  return plan;
}

}  // namespace tandem::worker
