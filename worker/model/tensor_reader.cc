#include "worker/model/tensor_reader.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tandem::worker {
namespace {

using model::TensorView;

// {columns, inner} also of a tensor that has the inner size in several parts. The parser has checked that the sizes
// multiply without overflow.
bool Matches(const std::vector<int64_t>& held, const std::vector<int64_t>& wanted) {
  if (wanted.size() < 2 || held.size() <= wanted.size()) return held == wanted;
  int64_t inner = 1;
  for (size_t i = 1; i < held.size(); ++i) inner *= held[i];
  return held[0] == wanted[0] && inner == wanted[1];
}

}  // namespace

void TensorChecker::Check(const std::string& name, const std::vector<int64_t>& shape) {
  if (!status_.ok()) return;
  const TensorView* view = files_.Find(name);
  if (view == nullptr) {
    status_ = absl::InvalidArgumentError(absl::StrCat("the weights have no tensor \"", name, "\""));
  } else if (!Matches(view->info->shape, shape)) {
    status_ = absl::InvalidArgumentError(absl::StrCat("tensor \"", name, "\" has shape [",
                                                      absl::StrJoin(view->info->shape, ", "),
                                                      "], config.json asks for [", absl::StrJoin(shape, ", "), "]"));
  } else if (!view->info->dtype.has_value()) {
    status_ = absl::InvalidArgumentError(absl::StrCat("tensor \"", name, "\" has dtype ", view->info->dtype_name,
                                                      ", weights are read as F32, BF16 or F16"));
  }
}

void TensorLoader::Vector(const std::vector<std::string>& names, int64_t count, const float** out) {
  const int64_t total = count * static_cast<int64_t>(names.size());
  float* at = arena_->TakeFloats(total);
  vector_bytes_ += model::RoundUp(total * 4, model::kBufferAlignment);
  *out = at;
  for (const std::string& name : names) {
    const TensorView& view = *files_.Find(name);
    ConvertToFloat(*view.info->dtype, view.data, count, at);
    at += count;
  }
}

void TensorLoader::Matrix(const std::vector<std::string>& names, int64_t columns, int64_t inner, PackedMatrix* out) {
  *out = PackedMatrix{stored_, columns * static_cast<int64_t>(names.size()), inner, nullptr};
  out->data = arena_->Take(out->bytes());
  packed_bytes_ += out->bytes();
  int64_t column = 0;
  for (const std::string& name : names) {
    const TensorView& view = *files_.Find(name);
    PackColumns({*view.info->dtype, view.data, columns, inner, inner, 1}, column, out);
    column += columns;
  }
}

}  // namespace tandem::worker
