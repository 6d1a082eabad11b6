// Loads one rank's slice of a decoder model onto a CUDA device and computes its steps there.
//
// Loading takes everything but the KV pool, in this order: weights, the arena, what the communicator needs; then one
// step of each kind runs over a stand-in for the pool, so that every kernel is loaded; then decode steps are captured
// as graphs (graph_sizes.h). What the device's free memory shrank by is the measured size of it all, and AllocateKv
// takes the pool from the rest. A graph that can not be captured is no failure: the reason is logged, and every rank of
// the group computes those steps launch by launch.
//
// A step: its arrays go to the device in one copy, its block tables in another; the layers are enqueued, or a graph is
// launched; the logits of rank 0 come back in one copy for each rank. Then the host waits (stream.h), with a deadline
// and an eye on the group, and raises progress() for each layer that the device has passed. While layers are enqueued
// one by one, the host is never more than kLayersAhead of the device: a full queue of launches would hold it without a
// deadline. A graph's layers are counted when it is done.
//
// When a wait ends in an error, the communicator is aborted, and the device gets drain_limit to come to rest. A device
// that does not, or that has an error which stays, is of no use to this process any more, and the executor could not
// even be destroyed: `on_lost` is told, and ends the process.
//
// Results: sums are float32, rounded between products to bfloat16 or float16. A sequence's logits differ in their last
// bits with the number of tokens that share its step (cublaslt_matmul.h); so equal numerics_id() here means the same
// kernels, and only for equal steps the same bits. This is weaker than what the CPU promises, and the id ends in
// "/near" to say so.
//
// No part of this has run on a real device where it was written: it is tested on emulated ones (tests/emulation), where
// neither speed nor the hardware's own arithmetic can be seen.
#ifndef TANDEM_WORKER_CUDA_CUDA_EXECUTOR_H_
#define TANDEM_WORKER_CUDA_CUDA_EXECUTOR_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/model/model_config.h"
#include "worker/comm/communicator.h"
#include "worker/cuda/device_communicator.h"
#include "worker/exec/executor.h"
#include "worker/model/shard_plan.h"

namespace tandem::worker::cuda {

inline constexpr int32_t kMaxBatchTokens = 1 << 20;
inline constexpr int32_t kMaxSequences = 65535;  // a sequence has a place in a grid's second or third dimension

struct CudaExecutorOptions {
  std::string folder;              // as CpuModelOptions
  std::string dtype = "auto";      // auto | bfloat16 | float16; auto: float16 for such files, else bfloat16
  int32_t max_batch_tokens = 512;  // sum of tokens in one step, sizes the arena
  int32_t max_sequences = 64;      // sequences in one step
  int32_t max_model_len = 0;       // longest context that will come; 0: the model's own
  int64_t memory_limit_bytes = 0;  // for all but the KV pool; 0: what the device has free now
  bool graphs = true;
  std::chrono::nanoseconds wait_limit = std::chrono::minutes(10);   // of one wait for the device
  std::chrono::nanoseconds drain_limit = std::chrono::seconds(10);  // for it to come to rest after an error
  // The device is lost to this process. Should not return; where it does, every later step fails with the reason.
  std::function<void(absl::string_view reason)> on_lost;
};

// Makes the group's data plane. Called once, by every rank, when weights and arena are in place; `largest_bytes` is the
// most that one call will carry.
using MakeDeviceCommunicator =
    std::function<absl::StatusOr<std::unique_ptr<DeviceCommunicator>>(Communicator* control, int64_t largest_bytes)>;

// Loads onto the current device of the calling thread; every call of the executor makes it current again.
// REQUIRES: `control` outlives the executor; its rank and size choose the slice.
// On error nothing is held. Errors name the field, tensor or number that stands in the way, as LoadCpuModel's.
absl::StatusOr<std::unique_ptr<Executor>> LoadCudaExecutor(const CudaExecutorOptions& options, Communicator* control,
                                                           const MakeDeviceCommunicator& make_communicator);

// The same with weights from elsewhere than a folder, which `options` then need not name. What the plan points to has
// to stay until this returns.
struct PlannedModel {
  model::DecoderConfig config;
  ShardPlan plan;  // of this rank
  std::string revision;
};
absl::StatusOr<std::unique_ptr<Executor>> LoadPlannedModel(const CudaExecutorOptions& options, PlannedModel planned,
                                                           Communicator* control,
                                                           const MakeDeviceCommunicator& make_communicator);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_CUDA_EXECUTOR_H_
