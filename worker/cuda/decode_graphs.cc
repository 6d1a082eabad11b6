#include "worker/cuda/decode_graphs.h"

#include <utility>

#include "worker/cuda/check.h"

namespace tandem::worker::cuda {

Graph::~Graph() {
  if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
}

absl::StatusOr<Graph> Graph::Capture(cudaStream_t stream, absl::FunctionRef<absl::Status()> enqueue) {
  // Other threads of this process may go on using the runtime meanwhile (a heartbeat reads the free memory).
  if (const cudaError_t error = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
      error != cudaSuccess) {
    return ToStatus(error, "beginning to capture a graph");
  }
  const absl::Status enqueued = enqueue();
  cudaGraph_t captured = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream, &captured);
  Graph graph;
  absl::Status status = enqueued;
  if (status.ok()) status = ToStatus(ended, "capturing a graph");
  if (status.ok()) status = ToStatus(cudaGraphInstantiate(&graph.graph_, captured, 0), "making a captured graph ready");
  if (captured != nullptr) cudaGraphDestroy(captured);
  // Now and not at the first launch, so that what it takes is taken.
  if (status.ok()) status = ToStatus(cudaGraphUpload(graph.graph_, stream), "bringing a captured graph to the device");
  if (status.ok()) return graph;
  cudaGetLastError();
  return status;
}

absl::Status Graph::Launch(cudaStream_t stream) const {
  return ToStatus(cudaGraphLaunch(graph_, stream), "launching a captured step");
}

absl::Status DecodeGraphs::Capture(int32_t size, cudaStream_t stream, absl::FunctionRef<absl::Status()> enqueue) {
  graphs_.erase(size);
  absl::StatusOr<Graph> graph = Graph::Capture(stream, enqueue);
  if (!graph.ok()) return graph.status();
  graphs_[size] = *std::move(graph);
  return absl::OkStatus();
}

}  // namespace tandem::worker::cuda
