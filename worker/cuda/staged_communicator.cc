#include "worker/cuda/staged_communicator.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "worker/cuda/check.h"
#include "worker/model/packed_matrix.h"

namespace tandem::worker::cuda {

using model::DType;

absl::StatusOr<std::unique_ptr<StagedCommunicator>> StagedCommunicator::Create(Communicator* control,
                                                                               int64_t largest_bytes,
                                                                               std::chrono::nanoseconds wait_limit) {
  absl::StatusOr<PinnedMemory> staging = PinnedMemory::Allocate(largest_bytes, "sums over the ranks");
  if (!staging.ok()) return staging.status();
  absl::StatusOr<Event> copied = Event::Create();
  if (!copied.ok()) return copied.status();
  return std::unique_ptr<StagedCommunicator>(
      new StagedCommunicator(control, *std::move(staging), *std::move(copied), wait_limit));
}

StagedCommunicator::StagedCommunicator(Communicator* control, PinnedMemory staging, Event copied,
                                       std::chrono::nanoseconds wait_limit)
    : control_(*control), staging_(std::move(staging)), copied_(std::move(copied)), wait_limit_(wait_limit) {
  // Room for any call, so that none of them allocates.
  floats_.reserve(static_cast<size_t>(staging_.bytes() / 2));
  gathered_.reserve(static_cast<size_t>(staging_.bytes() / 4));
}

absl::Status StagedCommunicator::AllReduceSum(void* buffer, int64_t count, DType type, cudaStream_t stream) {
  const int64_t bytes = count * model::BytesOf(type);
  if (absl::Status brought = Bring(buffer, bytes, stream); !brought.ok()) return brought;
  const absl::Status summed = Sum(static_cast<size_t>(count), type);
  return summed.ok() ? SendBack(buffer, bytes, stream) : summed;
}

absl::Status StagedCommunicator::Sum(size_t count, DType type) {
  if (type == DType::kFloat32) {
    return control_.AllReduceSum(absl::MakeSpan(reinterpret_cast<float*>(staging_.data()), count));
  }
  floats_.resize(count);
  ConvertToFloat(type, staging_.data(), static_cast<int64_t>(count), floats_.data());
  if (absl::Status summed = control_.AllReduceSum(absl::MakeSpan(floats_)); !summed.ok()) return summed;
  uint16_t* const out = reinterpret_cast<uint16_t*>(staging_.data());
  for (size_t i = 0; i < count; ++i) {
    out[i] = type == DType::kBFloat16 ? model::BFloat16FromFloat(floats_[i]) : model::Float16FromFloat(floats_[i]);
  }
  return absl::OkStatus();
}

absl::Status StagedCommunicator::Gather(const void* send, void* receive, int64_t count, DType type,
                                        cudaStream_t stream) {
  if (type != DType::kFloat32) return absl::InvalidArgumentError("only float32 is gathered through the host");
  const int64_t bytes = count * model::BytesOf(type);
  const int64_t all = rank() == 0 ? bytes * size() : 0;
  if (all > staging_.bytes()) {
    return absl::InvalidArgumentError(absl::StrCat("a gather of ", all, " bytes, made for ", staging_.bytes()));
  }
  if (absl::Status brought = Bring(send, bytes, stream); !brought.ok()) return brought;
  const size_t values = static_cast<size_t>(count);
  gathered_.resize(rank() == 0 ? values * static_cast<size_t>(size()) : 0);
  const absl::Status gathered = control_.Gather(
      absl::MakeConstSpan(reinterpret_cast<const float*>(staging_.data()), values), absl::MakeSpan(gathered_));
  if (!gathered.ok() || rank() != 0) return gathered;
  std::memcpy(staging_.data(), gathered_.data(), gathered_.size() * sizeof(float));
  return SendBack(receive, all, stream);
}

absl::Status StagedCommunicator::Bring(const void* from, int64_t bytes, cudaStream_t stream) {
  if (bytes > staging_.bytes()) {
    return absl::InvalidArgumentError(absl::StrCat("a collective of ", bytes, " bytes, made for ", staging_.bytes()));
  }
  // The staging memory's last way back lies on the same stream, before this.
  if (const cudaError_t error =
          cudaMemcpyAsync(staging_.data(), from, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream);
      error != cudaSuccess) {
    return ToStatus(error, "copying to the host for a sum");
  }
  if (absl::Status recorded = copied_.Record(stream); !recorded.ok()) return recorded;
  return AwaitDevice(
      "copying to the host for a sum",
      {.limit = wait_limit_, .health = [this] { return Health(); }, .passed = [this] { return copied_.Passed(); }});
}

absl::Status StagedCommunicator::SendBack(void* to, int64_t bytes, cudaStream_t stream) {
  return ToStatus(cudaMemcpyAsync(to, staging_.data(), static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream),
                  "copying a sum back");
}

}  // namespace tandem::worker::cuda
