#include "worker/exec/cpu_encoder_parts.h"

#include "base/model/model_memory.h"
#include "worker/exec/cpu_isa.h"
#include "worker/exec/free_memory.h"

namespace tandem::worker {

using model::DType;

absl::StatusOr<EncoderSource> EncoderSource::Open(const CpuModelOptions& options, std::optional<DType> of_files) {
  const absl::StatusOr<const CpuKernels*> kernels = ChooseKernels(options.isa);
  if (!kernels.ok()) return kernels.status();
  absl::StatusOr<model::WeightFiles> files = model::WeightFiles::Open(options.folder);
  if (!files.ok()) return files.status();
  absl::StatusOr<model::Manifest> manifest = model::ReadManifest(options.folder);
  if (!manifest.ok()) return manifest.status();
  const absl::StatusOr<DType> stored = model::ChooseStoredDType(options.dtype, of_files.value_or(DType::kFloat32));
  if (!stored.ok()) return stored.status();
  return EncoderSource{*kernels, *std::move(files), *std::move(manifest), *stored};
}

std::string EncoderSource::NumericsId(absl::string_view kind, int version) const {
  const bool bf16 = stored == DType::kBFloat16;
  return absl::StrCat("cpu/", bf16 ? kernels->numerics_bf16 : kernels->numerics_fp32, "/", bf16 ? "bf16" : "fp32", "/",
                      kind, "/v", version);
}

absl::Status CheckRoom(const CpuModelOptions& options, int64_t weights, int64_t activations, int64_t decoding) {
  const int64_t needed = weights + activations + decoding;
  const int64_t free = options.memory_limit_bytes > 0 ? options.memory_limit_bytes : FreeMemoryBytes();
  if (needed <= free) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the encoder needs ", needed, " bytes (weights ", weights, ", activations ", activations,
                   decoding > 0 ? absl::StrCat(", decoding of pictures ", decoding) : "", "), ", free, " are free"));
}

absl::StatusOr<MemoryArena> MapResident(int64_t bytes) {
  absl::StatusOr<MemoryArena> arena = MemoryArena::Map(bytes);
  if (!arena.ok()) return arena;
  if (absl::Status resident = arena->Reside(); !resident.ok()) return resident;
  return arena;
}

}  // namespace tandem::worker
