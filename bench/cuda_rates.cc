#include "bench/cuda_rates.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <tuple>
#include <vector>

#include "absl/status/statusor.h"
#include "base/model/dtype.h"
#include "worker/cuda/cublaslt_matmul.h"
#include "worker/cuda/stream.h"

namespace tandem::bench {

using model::DType;
using namespace worker::cuda;  // NOLINT: this program is about it

double DeviceSeconds(cudaStream_t stream, const std::function<void()>& enqueue) {
  absl::StatusOr<Event> start = Event::Create(/*timed=*/true);
  absl::StatusOr<Event> end = Event::Create(/*timed=*/true);
  Check(start.status());
  Check(end.status());
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    Check(start->Record(stream));
    enqueue();
    Check(end->Record(stream));
    Check(cudaStreamSynchronize(stream));
    float milliseconds = 0;
    Check(cudaEventElapsedTime(&milliseconds, start->get(), end->get()));
    best = std::min(best, milliseconds * 1e-3);
  }
  return std::max(best, 1e-9);
}

double CopyBandwidth(bool tiny, cudaStream_t stream) {
  const int64_t bytes = tiny ? 1 << 20 : 1 << 30;
  absl::StatusOr<DeviceMemory> memory = DeviceMemory::Allocate(2 * bytes, "measuring copies");
  Check(memory.status());
  const double seconds = DeviceSeconds(stream, [&] {
    Check(cudaMemcpyAsync(memory->data(), memory->data() + bytes, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice,
                          stream));
  });
  return 2.0 * static_cast<double>(bytes) / seconds;
}

void FillWithNumbers(const DeviceMemory& memory, cudaStream_t stream) {
  std::vector<uint16_t> numbers(1 << 20);
  uint32_t state = 4321;
  for (uint16_t& number : numbers) {
    state = state * 1664525u + 1013904223u;
    number = model::BFloat16FromFloat(static_cast<float>(state >> 8) * 0x1p-24f - 0.5f);
  }
  const int64_t piece = static_cast<int64_t>(numbers.size() * sizeof(uint16_t));
  for (int64_t at = 0; at < memory.bytes(); at += piece) {
    Check(cudaMemcpyAsync(memory.data() + at, numbers.data(), static_cast<size_t>(std::min(piece, memory.bytes() - at)),
                          cudaMemcpyHostToDevice, stream));
  }
  Check(cudaStreamSynchronize(stream));
}

double ProductRate(bool tiny, cudaStream_t stream) {
  double best = 0;
  const int64_t unit = tiny ? 64 : 1024;
  for (const auto& [rows, columns, inner] : {std::tuple<int64_t, int64_t, int64_t>{8, 8, 8}, {4, 16, 4}, {2, 22, 4}}) {
    const int64_t m = rows * unit, n = columns * unit, k = inner * unit;
    absl::StatusOr<DeviceMemory> memory =
        DeviceMemory::Allocate(2 * (m * k + n * k + m * n) + kMatmulWorkspaceBytes + 4 * kDeviceAlignment, "products");
    Check(memory.status());
    FillWithNumbers(*memory, stream);
    MemoryCursor cursor(memory->data(), memory->bytes());
    DeviceLinear linear{.weight = {cursor.TakeBytes(2 * n * k), n, k}};
    const MatmulArgs args{.input = cursor.TakeBytes(2 * m * k),
                          .input_stride = k,
                          .linear = &linear,
                          .output = cursor.TakeBytes(2 * m * n),
                          .output_stride = n,
                          .rows = m};
    absl::StatusOr<std::unique_ptr<Matmul>> matmul =
        Matmul::Create(DType::kBFloat16, cursor.TakeBytes(kMatmulWorkspaceBytes));
    Check(matmul.status());
    const double seconds = DeviceSeconds(stream, [&] { Check((*matmul)->Run(args, stream)); });
    best = std::max(best, 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) / seconds);
  }
  return best;
}

}  // namespace tandem::bench
