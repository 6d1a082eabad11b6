// What a device does at its best, measured in the run that other figures are compared in: copies and products.
#ifndef TANDEM_BENCH_CUDA_RATES_H_
#define TANDEM_BENCH_CUDA_RATES_H_

#include <cuda_runtime.h>
#include <glog/logging.h>

#include <functional>

#include "absl/status/status.h"
#include "worker/cuda/device_memory.h"

namespace tandem::bench {

// Benchmarks end where something fails; there is nothing to go on with.
inline void Check(const absl::Status& status) { CHECK(status.ok()) << status; }
inline void Check(cudaError_t error) { CHECK(error == cudaSuccess) << cudaGetErrorString(error); }

// Seconds that the device takes for what `enqueue` puts on the stream, the best of a few.
double DeviceSeconds(cudaStream_t stream, const std::function<void()>& enqueue);

// Zeros would be multiplied faster than any model's numbers: fewer wires change.
void FillWithNumbers(const worker::cuda::DeviceMemory& memory, cudaStream_t stream);

// Bytes per second from one place of the device's memory to another, read and write counted. `tiny`: of a megabyte, on
// an emulated device.
double CopyBandwidth(bool tiny, cudaStream_t stream);

// Operations per second of the best of three large products by cuBLASLt, as the executor calls it.
double ProductRate(bool tiny, cudaStream_t stream);

}  // namespace tandem::bench

#endif  // TANDEM_BENCH_CUDA_RATES_H_
