// Captured decode steps, one for each size.
//
// A captured launch holds the addresses that it works on, those of the KV pool too. But the pool is taken last, from
// what everything else has left, and graphs are a part of everything else. So they are captured twice: first over a
// stand-in for the pool, to be counted; and once more when the pool is there, each in the place of the one before, so
// that at no time there is more than one too many.
//
// Belongs to the engine thread.
#ifndef TANDEM_WORKER_CUDA_DECODE_GRAPHS_H_
#define TANDEM_WORKER_CUDA_DECODE_GRAPHS_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem::worker::cuda {

// One captured launch, ready to run.
class Graph {
 public:
  Graph() = default;  // Holds nothing.
  ~Graph();
  Graph(Graph&& other) noexcept : graph_(std::exchange(other.graph_, nullptr)) {}
  Graph& operator=(Graph&& other) noexcept {
    std::swap(graph_, other.graph_);
    return *this;
  }

  // Captures what `enqueue` puts on the stream, without running it. On error the stream is as it was before, and no
  // error stays behind in the runtime unless it is one that always stays (check.h).
  static absl::StatusOr<Graph> Capture(cudaStream_t stream, absl::FunctionRef<absl::Status()> enqueue);

  absl::Status Launch(cudaStream_t stream) const;

 private:
  cudaGraphExec_t graph_ = nullptr;
};

class DecodeGraphs {
 public:
  // Captures `size`, in the place of what was captured for it before.
  absl::Status Capture(int32_t size, cudaStream_t stream, absl::FunctionRef<absl::Status()> enqueue);

  // REQUIRES: `size` was captured.
  absl::Status Launch(int32_t size, cudaStream_t stream) const { return graphs_.at(size).Launch(stream); }

  void Clear() { graphs_.clear(); }
  size_t count() const { return graphs_.size(); }

 private:
  std::map<int32_t, Graph> graphs_;
};

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_DECODE_GRAPHS_H_
