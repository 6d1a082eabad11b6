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
                                                                               int64_t largest_bytes) {
  absl::StatusOr<PinnedMemory> staging = PinnedMemory::Allocate(largest_bytes, "sums over the ranks");
  if (!staging.ok()) return staging.status();
  return std::unique_ptr<StagedCommunicator>(new StagedCommunicator(control, *std::move(staging)));
}

StagedCommunicator::StagedCommunicator(Communicator* control, PinnedMemory staging)
    : control_(*control), staging_(std::move(staging)) {
  // Room for any call, so that none of them allocates.
  floats_.reserve(static_cast<size_t>(staging_.bytes() / 2));
  gathered_.reserve(static_cast<size_t>(staging_.bytes() / 4));
}

StagedCommunicator::~StagedCommunicator() = default;

absl::Status StagedCommunicator::AllReduceSum(void* buffer, int64_t count, DType type, cudaStream_t stream) {
  return Enqueue(Kind::kSum, buffer, buffer, count, type, stream);
}

absl::Status StagedCommunicator::Gather(const void* send, void* receive, int64_t count, DType type,
                                        cudaStream_t stream) {
  return Enqueue(Kind::kGather, send, receive, count, type, stream);
}

absl::Status StagedCommunicator::Enqueue(Kind kind, const void* send, void* receive, int64_t count, DType type,
                                         cudaStream_t stream) {
  const int64_t bytes = count * model::BytesOf(type);
  const int64_t back = kind == Kind::kSum ? bytes : rank() == 0 ? bytes * size() : 0;
  if (kind == Kind::kGather && type != DType::kFloat32) {
    return absl::InvalidArgumentError("only float32 is gathered through the host");
  }
  if (std::max(bytes, back) > staging_.bytes()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a collective of ", std::max(bytes, back), " bytes, made for ", staging_.bytes()));
  }
  std::unique_ptr<Call>& call = calls_[{kind, count, type}];
  if (call == nullptr) call = std::make_unique<Call>(Call{this, kind, count, type});
  if (const cudaError_t error =
          cudaMemcpyAsync(staging_.data(), send, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream);
      error != cudaSuccess) {
    return ToStatus(error, "copying to the host for a sum");
  }
  if (const cudaError_t error = cudaLaunchHostFunc(stream, &RunCall, call.get()); error != cudaSuccess) {
    return ToStatus(error, "enqueueing a sum on the host");
  }
  if (back == 0) return absl::OkStatus();
  return ToStatus(cudaMemcpyAsync(receive, staging_.data(), static_cast<size_t>(back), cudaMemcpyHostToDevice, stream),
                  "copying a sum back");
}

// On the driver's thread: no CUDA call may be made here, and nothing can be returned.
void StagedCommunicator::RunCall(void* argument) {
  const Call& call = *static_cast<const Call*>(argument);
  StagedCommunicator& self = *call.self;
  {
    std::lock_guard lock(self.mu_);
    if (!self.failed_.ok()) return;  // The rest of a step that has failed.
  }
  absl::Status done = call.kind == Kind::kSum ? self.Sum(call) : self.Collect(call);
  if (done.ok()) return;
  std::lock_guard lock(self.mu_);
  self.failed_ = std::move(done);
}

absl::Status StagedCommunicator::Sum(const Call& call) {
  const size_t count = static_cast<size_t>(call.count);
  if (call.type == DType::kFloat32) {
    return control_.AllReduceSum(absl::MakeSpan(reinterpret_cast<float*>(staging_.data()), count));
  }
  floats_.resize(count);
  ConvertToFloat(call.type, staging_.data(), call.count, floats_.data());
  if (absl::Status summed = control_.AllReduceSum(absl::MakeSpan(floats_)); !summed.ok()) return summed;
  uint16_t* const out = reinterpret_cast<uint16_t*>(staging_.data());
  for (size_t i = 0; i < count; ++i) {
    out[i] = call.type == DType::kBFloat16 ? model::BFloat16FromFloat(floats_[i]) : model::Float16FromFloat(floats_[i]);
  }
  return absl::OkStatus();
}

absl::Status StagedCommunicator::Collect(const Call& call) {
  const size_t count = static_cast<size_t>(call.count);
  gathered_.resize(rank() == 0 ? count * static_cast<size_t>(size()) : 0);
  const absl::Status done = control_.Gather(absl::MakeConstSpan(reinterpret_cast<const float*>(staging_.data()), count),
                                            absl::MakeSpan(gathered_));
  if (done.ok() && rank() == 0) std::memcpy(staging_.data(), gathered_.data(), gathered_.size() * sizeof(float));
  return done;
}

absl::Status StagedCommunicator::Health() {
  {
    std::lock_guard lock(mu_);
    if (!failed_.ok()) return failed_;
  }
  return control_.Health();
}

}  // namespace tandem::worker::cuda
