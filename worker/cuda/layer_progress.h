// How far the device is in the layers of a step that are enqueued one by one: an event behind each of them.
//
// Belongs to the engine thread. total() alone may be read from elsewhere.
#ifndef TANDEM_WORKER_CUDA_LAYER_PROGRESS_H_
#define TANDEM_WORKER_CUDA_LAYER_PROGRESS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "worker/cuda/stream.h"

namespace tandem::worker::cuda {

class LayerProgress {
 public:
  // Launches of so many layers fit in any device's queue (1024 launches, at most 16 for each layer). A host that
  // enqueues more is held by the queue itself, without a deadline.
  static constexpr size_t kLayersAhead = 24;

  // Takes the events, for the most layers that a step has. Once, before anything else.
  absl::Status Create(int32_t layers);

  void BeginStep() { enqueued_ = passed_ = 0; }
  // A layer is enqueued.
  absl::Status Record(cudaStream_t stream);
  // Counts the layers that the device has passed since the last look.
  absl::Status Look();
  bool may_enqueue() const { return enqueued_ - passed_ <= kLayersAhead; }
  // The step is done: all layers that were enqueued, or those of a graph, which have no events of their own.
  void EndStep() {
    const size_t layers = enqueued_ > 0 ? enqueued_ : events_.size();
    total_.fetch_add(layers - passed_, std::memory_order_relaxed);
  }

  // Layers of all steps.
  const std::atomic<uint64_t>& total() const { return total_; }

 private:
  std::vector<Event> events_;  // one for each layer
  size_t enqueued_ = 0;        // of the step under way, and so is:
  size_t passed_ = 0;
  std::atomic<uint64_t> total_{0};
};

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_LAYER_PROGRESS_H_
