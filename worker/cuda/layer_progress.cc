#include "worker/cuda/layer_progress.h"

#include <utility>

#include "absl/status/statusor.h"

namespace tandem::worker::cuda {

absl::Status LayerProgress::Create(int32_t layers) {
  for (int32_t i = 0; i < layers; ++i) {
    absl::StatusOr<Event> event = Event::Create();
    if (!event.ok()) return event.status();
    events_.push_back(*std::move(event));
  }
  return absl::OkStatus();
}

absl::Status LayerProgress::Record(cudaStream_t stream) {
  if (absl::Status recorded = events_[enqueued_].Record(stream); !recorded.ok()) return recorded;
  ++enqueued_;
  return absl::OkStatus();
}

absl::Status LayerProgress::Look() {
  while (passed_ < enqueued_) {
    const absl::StatusOr<bool> passed = events_[passed_].Passed();
    if (!passed.ok()) return passed.status();
    if (!*passed) break;
    ++passed_;
    total_.fetch_add(1, std::memory_order_relaxed);
  }
  return absl::OkStatus();
}

}  // namespace tandem::worker::cuda
