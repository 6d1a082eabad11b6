// Runs steps on the device: brings their arrays there, has the decoder enqueue them or launches a graph, brings logits
// back, and waits. cuda_executor.h tells the whole story; this is its inner part, without the loading.
//
// Belongs to the engine thread. progress() alone may be read from elsewhere.
#ifndef TANDEM_WORKER_CUDA_STEP_RUNNER_H_
#define TANDEM_WORKER_CUDA_STEP_RUNNER_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "worker/comm/communicator.h"
#include "worker/cuda/cuda_decoder.h"
#include "worker/cuda/decode_graphs.h"
#include "worker/cuda/device_communicator.h"
#include "worker/cuda/device_memory.h"
#include "worker/cuda/layer_progress.h"
#include "worker/cuda/step_batch.h"
#include "worker/cuda/stream.h"
#include "worker/exec/executor.h"

namespace tandem::worker::cuda {

class StepRunner {
 public:
  struct Options {
    std::chrono::nanoseconds wait_limit;                    // of one wait for the device
    std::chrono::nanoseconds drain_limit;                   // for it to come to rest after an error
    std::function<void(absl::string_view reason)> on_lost;  // may be empty
  };

  // Takes the host's side of the buffers. The communicators outlive the runner.
  static absl::StatusOr<std::unique_ptr<StepRunner>> Create(Options options, Stream stream,
                                                            std::unique_ptr<CudaDecoder> decoder, Communicator* control,
                                                            DeviceCommunicator* communicator);

  // Runs a step of each kind and a product of each bucket, with all KV in the one block of `stand_in`, so that whatever
  // is loaded, chosen or connected at the first use is so afterwards. On all ranks at the same time.
  absl::Status WarmUp(const KvBlocks& stand_in);

  // Captures a graph for each of `sizes` over `kv`, in the place of those before. On all ranks at the same time: where
  // one of them can not, none has graphs, and the reason is logged. An error is the group's or the device's.
  absl::Status CaptureGraphs(absl::Span<const int32_t> sizes, const KvBlocks& kv);

  // As Executor's, with the step checked.
  absl::StatusOr<absl::Span<const float>> Run(const StepInput& step, const KvBlocks& kv);
  absl::Span<const BestTokens> best() const { return best_; }
  absl::StatusOr<absl::Span<const float>> FetchRow(size_t i);

  // Waits for what was enqueued on the stream by others.
  absl::Status AwaitStream(absl::string_view what);

  cudaStream_t stream() const { return stream_.get(); }
  const CudaDecoder& decoder() const { return *decoder_; }
  size_t graphs() const { return graphs_.count(); }
  const std::atomic<uint64_t>& progress() const { return layers_.total(); }

 private:
  StepRunner(Options options, Stream stream, std::unique_ptr<CudaDecoder> decoder, Communicator* control,
             DeviceCommunicator* communicator);

  absl::Status Enqueue(const FilledStep& filled, int32_t graph_size, const KvBlocks& kv);
  absl::Status SendArrays(const FilledStep& filled);
  absl::Status FetchReports(const FilledStep& filled);
  absl::Status FetchWholeRows(const FilledStep& filled);
  // Rows [row, row + count) of the step's, one after the other, to `to`.
  absl::Status CopyRows(int32_t row, int32_t count, float* to);
  // Makes best_ of what has come.
  void ReadReports(const FilledStep& filled);
  absl::Status RunFilled(const FilledStep& filled, int32_t graph_size, const KvBlocks& kv);
  absl::Status AfterLayer();
  absl::Status Await(absl::string_view what, absl::FunctionRef<absl::StatusOr<bool>()> passed);
  // After any error on the device or in the group: the runner is spent. Returns `why`.
  absl::Status Fail(absl::Status why);

  const Options options_;
  Stream stream_;
  PinnedMemory staging_;
  StepArrays arrays_;             // in staging_, as those of the device
  int32_t* tables_ = nullptr;     // in staging_
  float* logits_ = nullptr;       // in staging_, as is
  RowReport* reports_ = nullptr;  // [ranks][sequences]; rank 0 both
  Communicator& control_;
  DeviceCommunicator& communicator_;
  const std::unique_ptr<CudaDecoder> decoder_;
  Event done_;
  LayerProgress layers_;
  FilledStep step_;                   // under way, or the last one
  std::vector<BestTokens> best_;      // of it
  std::vector<TokenLogit> tokens_;    // that best_ points to: [sequences][kMostBestTokens]
  std::vector<int32_t> graph_sizes_;  // those that are captured
  DecodeGraphs graphs_;
  absl::Status spent_;
};

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_STEP_RUNNER_H_
