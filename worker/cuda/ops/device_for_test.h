// What the operators' tests share. They run on a device, and emulated without one: the same source, built twice.
#ifndef TANDEM_WORKER_CUDA_OPS_DEVICE_FOR_TEST_H_
#define TANDEM_WORKER_CUDA_OPS_DEVICE_FOR_TEST_H_

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "absl/status/status.h"
#include "base/model/dtype.h"

namespace tandem::worker::cuda {

// Skips, with the reason, where no device is.
class DeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(error);
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
  }
  void TearDown() override {
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }
  // The status of a launch, and of what it started.
  absl::Status Done(const absl::Status& launched) {
    if (!launched.ok()) return launched;
    const cudaError_t error = cudaStreamSynchronize(stream_);
    return error == cudaSuccess ? absl::OkStatus() : absl::InternalError(cudaGetErrorString(error));
  }

  cudaStream_t stream_ = nullptr;
};

#define ASSERT_DONE(launch)                 \
  do {                                      \
    const absl::Status done = Done(launch); \
    ASSERT_TRUE(done.ok()) << done;         \
  } while (false)

// Values on the device, of exactly as many bytes as they have.
template <class T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& values) : size_(values.size()) {
    if (size_ == 0) return;
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&data_), bytes()), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice), cudaSuccess);
    // A copy from pageable memory may return before the device has all of it, and the tests' stream does not wait for
    // the one that it runs on.
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  OnDevice(size_t size, T value) : OnDevice(std::vector<T>(size, value)) {}
  ~OnDevice() { cudaFree(data_); }
  OnDevice(const OnDevice&) = delete;

  T* data() const { return data_; }
  size_t bytes() const { return size_ * sizeof(T); }
  std::vector<T> Read() const {
    std::vector<T> values(size_);
    EXPECT_EQ(cudaMemcpy(values.data(), data_, bytes(), cudaMemcpyDeviceToHost), cudaSuccess);
    return values;
  }

 private:
  const size_t size_;
  T* data_ = nullptr;
};

// As stored: rounded to nearest, in the model's type.
inline uint16_t BitsOf(float value, model::DType type) {
  if (type == model::DType::kBFloat16) return model::BFloat16FromFloat(value);
  const __half half = __float2half_rn(value);
  uint16_t bits;
  std::memcpy(&bits, &half, sizeof(bits));
  return bits;
}
inline float FromBits(uint16_t bits, model::DType type) {
  return type == model::DType::kBFloat16 ? model::FloatFromBFloat16(bits) : model::FloatFromFloat16(bits);
}
inline std::vector<uint16_t> BitsOf(const std::vector<float>& values, model::DType type) {
  std::vector<uint16_t> bits;
  for (const float value : values) bits.push_back(BitsOf(value, type));
  return bits;
}
inline std::vector<float> FromBits(const std::vector<uint16_t>& bits, model::DType type) {
  std::vector<float> values;
  for (const uint16_t one : bits) values.push_back(FromBits(one, type));
  return values;
}
// Half of the distance between neighbours, relative to the value.
inline double RoundingOf(model::DType type) {
  return type == model::DType::kFloat32 ? 0x1p-24 : type == model::DType::kBFloat16 ? 0x1p-8 : 0x1p-11;
}

// Values in [-1, 1) that sixteen bits of `type` hold exactly.
inline std::vector<float> Noise(uint32_t seed, size_t count, model::DType type) {
  std::mt19937 random(seed);
  std::vector<float> values(count);
  for (float& value : values)
    value = FromBits(BitsOf(static_cast<float>(random() % 20001) / 10000.0f - 1.0f, type), type);
  return values;
}

inline constexpr model::DType kSixteenBits[] = {model::DType::kBFloat16, model::DType::kFloat16};

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_OPS_DEVICE_FOR_TEST_H_
