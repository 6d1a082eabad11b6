#include "worker/cuda/weight_upload.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "worker/cuda/check.h"
#include "worker/model/packed_matrix.h"

namespace tandem::worker::cuda {
namespace {

using model::DType;

// Of each of the two staging buffers. Large enough that a copy is bound by the link and not by its start.
constexpr int64_t kStagingBytes = 16 << 20;

float LoadFloat(DType dtype, const uint8_t* at) {
  float value;
  ConvertToFloat(dtype, at, 1, &value);
  return value;
}

// Rows [begin, end) of `source` in `type`, one after the other. Counts the values that became infinite on the way.
int64_t ConvertRows(const MatrixSource& source, int64_t begin, int64_t end, DType type, uint16_t* out) {
  const int64_t element = model::BytesOf(source.dtype);
  int64_t lost = 0;
  if (source.dtype == type && source.inner_stride == 1) {
    for (int64_t c = begin; c < end; ++c, out += source.inner) {
      std::memcpy(out, source.data + c * source.column_stride * element, static_cast<size_t>(source.inner) * 2);
    }
    return 0;
  }
  // Squares keep both sides in the cache where the source lies the other way round.
  constexpr int64_t kBlock = 64;
  for (int64_t c0 = begin; c0 < end; c0 += kBlock) {
    const int64_t c1 = std::min(end, c0 + kBlock);
    for (int64_t k0 = 0; k0 < source.inner; k0 += kBlock) {
      const int64_t k1 = std::min(source.inner, k0 + kBlock);
      for (int64_t c = c0; c < c1; ++c) {
        const uint8_t* at = source.data + (c * source.column_stride + k0 * source.inner_stride) * element;
        for (int64_t k = k0; k < k1; ++k, at += source.inner_stride * element) {
          const float value = LoadFloat(source.dtype, at);
          const bool half = type == DType::kFloat16;
          lost += half && std::isfinite(value) && std::fabs(value) >= 65520.0f;
          out[(c - begin) * source.inner + k] = half ? model::Float16FromFloat(value) : model::BFloat16FromFloat(value);
        }
      }
    }
  }
  return lost;
}

}  // namespace

absl::Status WeightUpload::Open() {
  for (Buffer& buffer : buffers_) {
    absl::StatusOr<PinnedMemory> memory = PinnedMemory::Allocate(kStagingBytes, "weights on their way");
    if (!memory.ok()) return memory.status();
    absl::StatusOr<Event> event = Event::Create();
    if (!event.ok()) return event.status();
    buffer.memory = *std::move(memory);
    buffer.copied = *std::move(event);
  }
  return absl::OkStatus();
}

absl::StatusOr<uint8_t*> WeightUpload::Room() {
  Buffer& buffer = buffers_[next_];
  if (absl::Status free = Await(buffer); !free.ok()) return free;
  return buffer.memory.data();
}

absl::Status WeightUpload::Send(void* to, int64_t bytes) {
  Buffer& buffer = buffers_[next_];
  next_ = 1 - next_;
  if (const cudaError_t error =
          cudaMemcpyAsync(to, buffer.memory.data(), static_cast<size_t>(bytes), cudaMemcpyHostToDevice, road_.stream);
      error != cudaSuccess) {
    return ToStatus(error, "copying weights to the device");
  }
  buffer.in_flight = true;
  return buffer.copied.Record(road_.stream);
}

absl::Status WeightUpload::Await(Buffer& buffer) {
  if (!buffer.in_flight) return absl::OkStatus();
  const auto passed = [&] { return buffer.copied.Passed(); };
  absl::Status done = AwaitDevice("copying weights to the device", {road_.wait_limit, road_.health, passed});
  if (done.ok()) buffer.in_flight = false;
  return done;
}

absl::Status WeightUpload::Finish() {
  for (Buffer& buffer : buffers_) {
    if (absl::Status done = Await(buffer); !done.ok()) return done;
  }
  if (lost_ == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(lost_, " weights are too large for float16; choose dtype bfloat16"));
}

absl::Status WeightUpload::Matrix(const MatrixSlice& slice, DType type, const DeviceMatrix& matrix) {
  uint16_t* to = static_cast<uint16_t*>(matrix.data);
  int64_t rows = 0;
  // A piece is a whole number of rows: a row of two bytes an element is far below a buffer for any model there is.
  const int64_t row_bytes = matrix.inner * model::BytesOf(type);
  const int64_t piece = kStagingBytes / row_bytes;
  if (piece < 1) {
    return absl::InvalidArgumentError(absl::StrCat("a matrix with ", matrix.inner, " inputs is too wide to upload"));
  }
  for (const MatrixSource& part : slice.parts) {
    for (int64_t begin = 0; begin < part.columns; begin += piece) {
      const int64_t end = std::min(part.columns, begin + piece);
      const absl::StatusOr<uint8_t*> room = Room();
      if (!room.ok()) return room.status();
      lost_ += ConvertRows(part, begin, end, type, reinterpret_cast<uint16_t*>(*room));
      if (absl::Status sent = Send(to, (end - begin) * row_bytes); !sent.ok()) return sent;
      to += (end - begin) * matrix.inner;
    }
    rows += part.columns;
  }
  if (rows == matrix.columns) return absl::OkStatus();
  // The pad rows of a vocabulary.
  return ToStatus(cudaMemsetAsync(to, 0, static_cast<size_t>((matrix.columns - rows) * row_bytes), road_.stream),
                  "clearing the rows that pad the vocabulary");
}

absl::Status WeightUpload::Vector(const VectorSlice& slice, float* to) {
  constexpr int64_t kPiece = kStagingBytes / 4;
  for (const VectorSlice::Part& part : slice.parts) {
    for (int64_t begin = 0; begin < part.count; begin += kPiece) {
      const int64_t count = std::min(kPiece, part.count - begin);
      const absl::StatusOr<uint8_t*> room = Room();
      if (!room.ok()) return room.status();
      ConvertToFloat(part.dtype, part.data + begin * model::BytesOf(part.dtype), count,
                     reinterpret_cast<float*>(*room));
      if (absl::Status sent = Send(to, count * 4); !sent.ok()) return sent;
      to += count;
    }
  }
  return absl::OkStatus();
}

}  // namespace tandem::worker::cuda
