#include "worker/cuda/stream.h"

#include <glog/logging.h>

#include <algorithm>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "worker/cuda/check.h"

namespace tandem::worker::cuda {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr microseconds kSpin{50};
constexpr microseconds kLongestSleep{100};
constexpr int kWaitShare = 16;
constexpr milliseconds kHealthPeriod{5};

}  // namespace

Event::~Event() {
  if (event_ != nullptr) cudaEventDestroy(event_);
}

absl::StatusOr<Event> Event::Create(bool timed) {
  Event event;
  const unsigned flags = timed ? cudaEventDefault : cudaEventDisableTiming;
  if (const cudaError_t error = cudaEventCreateWithFlags(&event.event_, flags); error != cudaSuccess) {
    event.event_ = nullptr;
    return ToStatus(error, "making an event");
  }
  return event;
}

absl::Status Event::Record(cudaStream_t stream) {
  return ToStatus(cudaEventRecord(event_, stream), "recording an event");
}

absl::StatusOr<bool> Event::Passed() const {
  const cudaError_t error = cudaEventQuery(event_);
  if (error == cudaSuccess) return true;
  if (error == cudaErrorNotReady) return false;
  return ToStatus(error, "the device, while it was waited for");
}

Stream::~Stream() {
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

absl::StatusOr<Stream> Stream::Create() {
  Stream stream;
  // Non-blocking: what a library does on the default stream must not order itself into our steps.
  if (const cudaError_t error = cudaStreamCreateWithFlags(&stream.stream_, cudaStreamNonBlocking);
      error != cudaSuccess) {
    stream.stream_ = nullptr;
    return ToStatus(error, "making a stream");
  }
  return stream;
}

absl::Status AwaitDevice(absl::string_view what, const DeviceWait& wait) {
  const steady_clock::time_point start = steady_clock::now();
  steady_clock::time_point next_health = start + kHealthPeriod;
  while (true) {
    const absl::StatusOr<bool> passed = wait.passed();
    if (!passed.ok()) return passed.status();
    if (*passed) return absl::OkStatus();
    const steady_clock::time_point now = steady_clock::now();
    const nanoseconds waited = now - start;
    if (now >= next_health) {
      if (absl::Status health = wait.health(); !health.ok()) return health;
      next_health = now + kHealthPeriod;
    }
    if (waited >= wait.limit) {
      return absl::DeadlineExceededError(absl::StrCat(what, ": the device is not done after ",
                                                      absl::FormatDuration(absl::FromChrono(waited)), ", limit ",
                                                      absl::FormatDuration(absl::FromChrono(wait.limit))));
    }
    if (waited < kSpin) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::min<nanoseconds>(waited / kWaitShare, kLongestSleep));
    }
  }
}

void RestOrLose(const absl::Status& why, cudaStream_t stream, std::chrono::nanoseconds limit,
                const std::function<void(absl::string_view reason)>& on_lost) {
  std::string lost = IsSticky(why) ? std::string(why.message()) : "";
  if (lost.empty()) {
    const auto idle = [stream]() -> absl::StatusOr<bool> {
      const cudaError_t error = cudaStreamQuery(stream);
      if (error == cudaErrorNotReady) return false;
      if (error != cudaSuccess) return ToStatus(error, "the device, while it came to rest");
      return true;
    };
    const auto healthy = [] { return absl::OkStatus(); };
    const absl::Status rest = AwaitDevice("coming to rest", {limit, healthy, idle});
    if (!rest.ok()) lost = absl::StrCat(why.message(), "; then: ", rest.message());
  }
  if (lost.empty()) return;
  LOG(ERROR) << "the device is lost to this process: " << lost;
  if (on_lost) on_lost(lost);
}

}  // namespace tandem::worker::cuda
