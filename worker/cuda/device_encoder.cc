#include "worker/cuda/device_encoder.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/model/model_folder.h"
#include "worker/cuda/check.h"

namespace tandem::worker::cuda {
namespace {

using model::DType;

absl::StatusOr<DType> ChooseType(absl::string_view requested, std::optional<DType> of_files) {
  if (requested == NameOf(DType::kBFloat16)) return DType::kBFloat16;
  if (requested == NameOf(DType::kFloat16)) return DType::kFloat16;
  if (requested == "auto") return of_files == DType::kBFloat16 ? DType::kBFloat16 : DType::kFloat16;
  return absl::InvalidArgumentError(
      absl::StrCat("dtype \"", requested, "\" is not computed on CUDA; choose auto, bfloat16 or float16"));
}

}  // namespace

absl::StatusOr<EncoderFiles> EncoderFiles::Open(const CudaExecutorOptions& options, std::optional<DType> of_files) {
  const absl::StatusOr<DType> type = ChooseType(options.dtype, of_files);
  if (!type.ok()) return type.status();
  absl::StatusOr<model::WeightFiles> files = model::WeightFiles::Open(options.folder);
  if (!files.ok()) return files.status();
  absl::StatusOr<model::Manifest> manifest = model::ReadManifest(options.folder);
  if (!manifest.ok()) return manifest.status();
  return EncoderFiles{*std::move(files), std::move(manifest->revision), *type};
}

absl::Status CopyToDevice(void* to, const void* from, int64_t bytes, cudaStream_t stream) {
  return ToStatus(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream),
                  "copying a step's arrays to the device");
}

}  // namespace tandem::worker::cuda
