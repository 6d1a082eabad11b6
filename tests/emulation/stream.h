// Streams, events and captures behind the runtime's handles.
//
// A stream is a thread of its own that does what was put on it, in order: a host that reads a result too early meets
// the same surprise as on a device. It begins late: when the host asks how far it is, or a while after the work came.
// So a host that goes on as if a copy had been taken along with the call is wrong every time, and not once in a while.
// Handles are counted: a stream that is destroyed finishes its work first.
#ifndef TANDEM_TESTS_EMULATION_STREAM_H_
#define TANDEM_TESTS_EMULATION_STREAM_H_

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/emulation/runtime_api.h"

namespace tandem::emulation {

using Work = std::function<cudaError_t()>;

// A place in a stream's order that somebody waits for.
class Marker {
 public:
  void Set();
  bool IsSet() const;
  void Await() const;
  std::chrono::steady_clock::time_point time() const { return time_; }

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool set_ = false;
  std::chrono::steady_clock::time_point time_;
};

// What a capture has recorded. Streams that joined it record into the same list, in the order of the calls.
struct Capture {
  std::vector<Work> work;
  cudaStream_t origin = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  bool invalidated = false;
  std::vector<cudaStream_t> joined;
};

// The thread behind a stream. Outlives its handle until its work is done.
class Queue {
 public:
  static std::shared_ptr<Queue> Start(int device);

  void Put(Work work);
  bool Idle();
  void AwaitIdle();
  void Urge();   // The host waits for what was put here so far.
  void Close();  // No work comes any more.

 private:
  explicit Queue(int device) : device_(device) {}
  void Serve();

  const int device_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> work_;
  bool busy_ = false;
  bool urged_ = false;
  bool closed_ = false;
};

}  // namespace tandem::emulation

struct CUstream_st {
  int device = 0;
  unsigned int flags = 0;
  std::shared_ptr<tandem::emulation::Queue> queue;
  std::shared_ptr<tandem::emulation::Capture> capture;  // null: none
};

struct CUevent_st {
  unsigned int flags = 0;
  std::shared_ptr<tandem::emulation::Queue> queue;      // of the last record
  std::shared_ptr<tandem::emulation::Marker> marker;    // of the last record; null: never recorded
  std::shared_ptr<tandem::emulation::Capture> capture;  // recorded in one
};

struct CUgraph_st {
  std::vector<tandem::emulation::Work> work;
};

struct CUgraphExec_st {
  std::shared_ptr<const std::vector<tandem::emulation::Work>> work;
};

#endif  // TANDEM_TESTS_EMULATION_STREAM_H_
