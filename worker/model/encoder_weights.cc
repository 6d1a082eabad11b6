#include "worker/model/encoder_weights.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/model/encoder_memory.h"
#include "worker/model/encoder_tensors.h"

namespace tandem::worker {
namespace {

using model::EncoderConfig;
using model::TensorView;
using model::WeightFiles;

class Checker {
 public:
  explicit Checker(const WeightFiles& files) : files_(files) {}

  void Table(const std::string& name, int64_t rows, int64_t columns, const float**) { Check(name, {rows, columns}); }
  void Vector(const std::vector<std::string>& names, int64_t count, const float**) {
    for (const std::string& name : names) Check(name, {count});
  }
  void Matrix(const std::vector<std::string>& names, int64_t columns, int64_t inner, PackedMatrix*) {
    for (const std::string& name : names) Check(name, {columns, inner});
  }

  const absl::Status& status() const { return status_; }

 private:
  void Check(const std::string& name, const std::vector<int64_t>& shape) {
    if (!status_.ok()) return;
    const TensorView* view = files_.Find(name);
    if (view == nullptr) {
      status_ = absl::InvalidArgumentError(absl::StrCat("the weights have no tensor \"", name, "\""));
    } else if (view->info->shape != shape) {
      status_ = absl::InvalidArgumentError(absl::StrCat("tensor \"", name, "\" has shape [",
                                                        absl::StrJoin(view->info->shape, ", "),
                                                        "], config.json asks for [", absl::StrJoin(shape, ", "), "]"));
    } else if (!view->info->dtype.has_value()) {
      status_ = absl::InvalidArgumentError(absl::StrCat("tensor \"", name, "\" has dtype ", view->info->dtype_name,
                                                        ", weights are read as F32, BF16 or F16"));
    }
  }

  const WeightFiles& files_;
  absl::Status status_;
};

class Loader {
 public:
  Loader(const WeightFiles& files, model::DType stored, EncoderWeights* weights)
      : files_(files), stored_(stored), weights_(weights) {}

  void Table(const std::string& name, int64_t rows, int64_t columns, const float** out) {
    Vector({name}, rows * columns, out);
  }
  void Vector(const std::vector<std::string>& names, int64_t count, const float** out) {
    const int64_t total = count * static_cast<int64_t>(names.size());
    float* at = weights_->arena.TakeFloats(total);
    weights_->vector_bytes += model::RoundUp(total * 4, model::kBufferAlignment);
    *out = at;
    for (const std::string& name : names) {
      const TensorView& view = *files_.Find(name);
      ConvertToFloat(*view.info->dtype, view.data, count, at);
      at += count;
    }
  }
  void Matrix(const std::vector<std::string>& names, int64_t columns, int64_t inner, PackedMatrix* out) {
    *out = PackedMatrix{stored_, columns * static_cast<int64_t>(names.size()), inner, nullptr};
    out->data = weights_->arena.Take(out->bytes());
    weights_->packed_bytes += out->bytes();
    int64_t column = 0;
    for (const std::string& name : names) {
      const TensorView& view = *files_.Find(name);
      PackColumns({*view.info->dtype, view.data, columns, inner, inner, 1}, column, out);
      column += columns;
    }
  }

 private:
  const WeightFiles& files_;
  const model::DType stored_;
  EncoderWeights* const weights_;
};

}  // namespace

absl::Status CheckEncoderWeights(const EncoderConfig& config, const WeightFiles& files) {
  EncoderWeights unused;
  Checker checker(files);
  VisitEncoderTensors(config, files, &unused, checker);
  return checker.status();
}

absl::StatusOr<EncoderWeights> LoadEncoderWeights(const EncoderConfig& config, const WeightFiles& files,
                                                  model::DType stored) {
  absl::StatusOr<MemoryArena> arena = MemoryArena::Map(model::EncoderWeightBytes(config, stored));
  if (!arena.ok()) return arena.status();
  EncoderWeights weights;
  weights.arena = *std::move(arena);
  Loader loader(files, stored, &weights);
  VisitEncoderTensors(config, files, &weights, loader);
  return weights;
}

}  // namespace tandem::worker
