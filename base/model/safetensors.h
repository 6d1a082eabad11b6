// Reads the weights of a model folder: model.safetensors, or several files named by model.safetensors.index.json.
//
// Files are mapped, not read: opening costs the headers, and a tensor's bytes come from disk when they are touched. All
// that a header says is checked before any tensor is handed out, so a view never reaches beyond its file. Immutable
// after Open; views live as long as the WeightFiles.
#ifndef TANDEM_BASE_MODEL_SAFETENSORS_H_
#define TANDEM_BASE_MODEL_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/model/dtype.h"

namespace tandem::model {

// The format's own limit.
inline constexpr int64_t kMaxSafetensorsHeader = 100'000'000;

struct TensorInfo {
  std::string dtype_name;      // as written: "BF16", "I64"
  std::optional<DType> dtype;  // for the types that weights are computed in
  std::vector<int64_t> shape;
  int64_t begin = 0;  // bytes, from the end of the header
  int64_t end = 0;
};

// Checks the JSON header of one file whose tensor data has `data_bytes` bytes: types, sizes that agree with the shapes,
// and data covered from first to last byte without hole or overlap. `where` is the file's name in messages.
absl::StatusOr<std::map<std::string, TensorInfo>> ParseSafetensorsHeader(absl::string_view header, int64_t data_bytes,
                                                                         absl::string_view where);

// The length and the text of a file's header, given the first bytes and the size of the file.
absl::StatusOr<int64_t> SafetensorsHeaderLength(absl::string_view first_bytes, int64_t file_bytes,
                                                absl::string_view where);

// The names of the files that hold the folder's weights, sorted, relative to it.
absl::StatusOr<std::vector<std::string>> ListWeightFiles(const std::string& folder);

struct TensorView {
  const TensorInfo* info = nullptr;
  const uint8_t* data = nullptr;
};

class WeightFiles {
 public:
  static absl::StatusOr<WeightFiles> Open(const std::string& folder);

  WeightFiles(WeightFiles&&) = default;
  WeightFiles& operator=(WeightFiles&&) = default;

  // Null if there is no such tensor.
  const TensorView* Find(const std::string& name) const;
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }

 private:
  class Mapping;

  WeightFiles() = default;
  absl::Status MapFile(const std::string& folder, const std::string& name);

  std::vector<std::shared_ptr<const Mapping>> mappings_;
  std::map<std::string, TensorView> tensors_;
};

}  // namespace tandem::model

#endif  // TANDEM_BASE_MODEL_SAFETENSORS_H_
