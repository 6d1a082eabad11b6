// A stream and its events, and the only way to wait for them: with a deadline, and with an eye on the group.
//
// A collective whose peer died never ends, and the device says nothing about it. So nobody here calls a function that
// blocks until the device is done; whoever waits looks, sleeps, and asks in between whether the group still lives.
//
// Belongs to the engine thread.
#ifndef TANDEM_WORKER_CUDA_STREAM_H_
#define TANDEM_WORKER_CUDA_STREAM_H_

#include <cuda_runtime.h>

#include <chrono>
#include <functional>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::worker::cuda {

class Event {
 public:
  Event() = default;  // Holds nothing.
  ~Event();
  Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }

  // `timed` events can be subtracted from each other, and cost the device a little more.
  static absl::StatusOr<Event> Create(bool timed = false);

  // What was enqueued on `stream` so far is what this event waits for from now on.
  absl::Status Record(cudaStream_t stream);

  // True once the device is past it. An error of anything before it on the device comes out here.
  absl::StatusOr<bool> Passed() const;

  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

class Stream {
 public:
  Stream() = default;  // Holds nothing.
  ~Stream();
  Stream(Stream&& other) noexcept : stream_(std::exchange(other.stream_, nullptr)) {}
  Stream& operator=(Stream&& other) noexcept {
    std::swap(stream_, other.stream_);
    return *this;
  }

  static absl::StatusOr<Stream> Create();

  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// How one waits for the device.
struct DeviceWait {
  std::chrono::nanoseconds limit;                    // of one wait
  absl::FunctionRef<absl::Status()> health;          // asked every kHealthPeriod; an error ends the wait
  absl::FunctionRef<absl::StatusOr<bool>()> passed;  // asked at every look
};

// OK once `passed` says so. DEADLINE_EXCEEDED names `what`; else the error of `passed` or `health`.
//
// Looks in a row for the first 50 us; then it sleeps between looks for a sixteenth of the time waited so far, 100 us at
// most: a step of 1 ms is seen done 60 us late at worst, and costs the core next to nothing. What this adds to a step
// on a real device is not measured.
absl::Status AwaitDevice(absl::string_view what, const DeviceWait& wait);

// After a wait that ended in the error `why`, with whatever could end the stream's work told to: gives the device
// `limit` to come to rest. Where it does not, or where the error is one that stays, the device is lost to this process,
// and `on_lost`, which may be empty, is told.
void RestOrLose(const absl::Status& why, cudaStream_t stream, std::chrono::nanoseconds limit,
                const std::function<void(absl::string_view reason)>& on_lost);

}  // namespace tandem::worker::cuda

#endif  // TANDEM_WORKER_CUDA_STREAM_H_
