#include "worker/cuda/device_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/model/model_memory.h"
#include "worker/cuda/check.h"
#include "worker/model/packed_matrix.h"

namespace tandem::worker::cuda {
namespace {

using model::DType;

// Of each of the two staging buffers. Large enough that a copy is bound by the link and not by its start.
constexpr int64_t kStagingBytes = 16 << 20;

// Walks plan and weights side by side, in one order: for counting, for laying out and for filling alike.
template <typename Matrix, typename Vector>
void Visit(const ShardPlan& plan, DeviceWeights* weights, const Matrix& matrix, const Vector& vector) {
  const auto norm = [&](const NormSlice& slice, DeviceNorm* out) {
    vector(slice.weight, &out->weight);
    vector(slice.bias, &out->bias);
  };
  const auto linear = [&](const LinearSlice& slice, DeviceLinear* out) {
    matrix(slice.weight, &out->weight);
    vector(slice.bias, &out->bias);
  };
  matrix(plan.embedding, &weights->embedding);
  vector(plan.positions, &weights->positions);
  weights->layers.resize(plan.layers.size());
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    const LayerSlices& slices = plan.layers[i];
    DeviceLayer& layer = weights->layers[i];
    norm(slices.attention_norm, &layer.attention_norm);
    linear(slices.qkv, &layer.qkv);
    linear(slices.attention_out, &layer.attention_out);
    norm(slices.mlp_norm, &layer.mlp_norm);
    linear(slices.mlp_in, &layer.mlp_in);
    linear(slices.mlp_out, &layer.mlp_out);
  }
  norm(plan.final_norm, &weights->final_norm);
  if (plan.output.columns > 0) {
    matrix(plan.output, &weights->output);
  } else {
    weights->output = weights->embedding;
  }
}

float LoadFloat(DType dtype, const uint8_t* at) {
  float value;
  ConvertToFloat(dtype, at, 1, &value);
  return value;
}

// Copies what is written to it to the device, piece by piece.
class Uploader {
 public:
  Uploader(cudaStream_t stream, std::chrono::nanoseconds wait_limit, absl::FunctionRef<absl::Status()> health)
      : stream_(stream), wait_limit_(wait_limit), health_(health) {}

  absl::Status Open() {
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

  // Where the next `bytes` may be written, until Send. REQUIRES: bytes <= kStagingBytes.
  absl::StatusOr<uint8_t*> Room() {
    Buffer& buffer = buffers_[next_];
    if (absl::Status free = Await(buffer); !free.ok()) return free;
    return buffer.memory.data();
  }

  absl::Status Send(void* to, int64_t bytes) {
    Buffer& buffer = buffers_[next_];
    next_ = 1 - next_;
    if (const cudaError_t error =
            cudaMemcpyAsync(to, buffer.memory.data(), static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream_);
        error != cudaSuccess) {
      return ToStatus(error, "copying weights to the device");
    }
    buffer.in_flight = true;
    return buffer.copied.Record(stream_);
  }

  absl::Status Finish() {
    for (Buffer& buffer : buffers_) {
      if (absl::Status done = Await(buffer); !done.ok()) return done;
    }
    return absl::OkStatus();
  }

 private:
  struct Buffer {
    PinnedMemory memory;
    Event copied;
    bool in_flight = false;
  };

  absl::Status Await(Buffer& buffer) {
    if (!buffer.in_flight) return absl::OkStatus();
    const auto passed = [&] { return buffer.copied.Passed(); };
    absl::Status done = AwaitDevice("copying weights to the device", {wait_limit_, health_, passed});
    if (done.ok()) buffer.in_flight = false;
    return done;
  }

  const cudaStream_t stream_;
  const std::chrono::nanoseconds wait_limit_;
  const absl::FunctionRef<absl::Status()> health_;
  std::array<Buffer, 2> buffers_;
  size_t next_ = 0;
};

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

absl::Status UploadMatrix(const MatrixSlice& slice, DType type, const DeviceMatrix& matrix, cudaStream_t stream,
                          Uploader* uploader, int64_t* lost) {
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
      const absl::StatusOr<uint8_t*> room = uploader->Room();
      if (!room.ok()) return room.status();
      *lost += ConvertRows(part, begin, end, type, reinterpret_cast<uint16_t*>(*room));
      if (absl::Status sent = uploader->Send(to, (end - begin) * row_bytes); !sent.ok()) return sent;
      to += (end - begin) * matrix.inner;
    }
    rows += part.columns;
  }
  if (rows == matrix.columns) return absl::OkStatus();
  // The pad rows of a vocabulary.
  return ToStatus(cudaMemsetAsync(to, 0, static_cast<size_t>((matrix.columns - rows) * row_bytes), stream),
                  "clearing the rows that pad the vocabulary");
}

absl::Status UploadVector(const VectorSlice& slice, float* to, Uploader* uploader) {
  constexpr int64_t kPiece = kStagingBytes / 4;
  for (const VectorSlice::Part& part : slice.parts) {
    for (int64_t begin = 0; begin < part.count; begin += kPiece) {
      const int64_t count = std::min(kPiece, part.count - begin);
      const absl::StatusOr<uint8_t*> room = uploader->Room();
      if (!room.ok()) return room.status();
      ConvertToFloat(part.dtype, part.data + begin * model::BytesOf(part.dtype), count,
                     reinterpret_cast<float*>(*room));
      if (absl::Status sent = uploader->Send(to, count * 4); !sent.ok()) return sent;
      to += count;
    }
  }
  return absl::OkStatus();
}

int64_t BufferBytes(int64_t bytes) { return model::RoundUp(bytes, kDeviceAlignment); }

}  // namespace

int64_t DeviceWeightBytes(const ShardPlan& plan, DType type) {
  int64_t bytes = 0;
  DeviceWeights unused;
  Visit(
      plan, &unused,
      [&](const MatrixSlice& slice, DeviceMatrix*) {
        bytes += BufferBytes(slice.columns * slice.inner * model::BytesOf(type));
      },
      [&](const VectorSlice& slice, float**) { bytes += BufferBytes(slice.count * 4); });
  return bytes;
}

absl::StatusOr<DeviceWeights> AllocateWeights(const ShardPlan& plan, DType type) {
  absl::StatusOr<DeviceMemory> memory = DeviceMemory::Allocate(DeviceWeightBytes(plan, type), "the weights");
  if (!memory.ok()) return memory.status();
  DeviceWeights weights;
  weights.type = type;
  weights.memory = *std::move(memory);
  MemoryCursor cursor(weights.memory.data(), weights.memory.bytes());
  Visit(
      plan, &weights,
      [&](const MatrixSlice& slice, DeviceMatrix* matrix) {
        matrix->columns = slice.columns;
        matrix->inner = slice.inner;
        matrix->data = cursor.TakeBytes(slice.columns * slice.inner * model::BytesOf(type));
      },
      [&](const VectorSlice& slice, float** vector) { *vector = cursor.Take<float>(slice.count); });
  return weights;
}

absl::StatusOr<DeviceWeights> UploadWeights(const ShardPlan& plan, DType type, cudaStream_t stream,
                                            std::chrono::nanoseconds wait_limit,
                                            absl::FunctionRef<absl::Status()> health) {
  absl::StatusOr<DeviceWeights> weights = AllocateWeights(plan, type);
  if (!weights.ok()) return weights.status();
  Uploader uploader(stream, wait_limit, health);
  if (absl::Status opened = uploader.Open(); !opened.ok()) return opened;
  absl::Status status;
  int64_t lost = 0;
  Visit(
      plan, &*weights,
      [&](const MatrixSlice& slice, DeviceMatrix* matrix) {
        if (status.ok()) status = UploadMatrix(slice, type, *matrix, stream, &uploader, &lost);
      },
      [&](const VectorSlice& slice, float** vector) {
        if (status.ok()) status = UploadVector(slice, *vector, &uploader);
      });
  if (status.ok()) status = uploader.Finish();
  if (!status.ok()) return status;
  if (lost > 0) {
    return absl::InvalidArgumentError(absl::StrCat(lost, " weights are too large for float16; choose dtype bfloat16"));
  }
  return weights;
}

}  // namespace tandem::worker::cuda
