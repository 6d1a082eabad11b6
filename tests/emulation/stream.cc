#include "tests/emulation/stream.h"

#include <algorithm>
#include <utility>

#include "tests/emulation/findings.h"
#include "tests/emulation/runtime.h"

namespace tandem::emulation {
namespace {

std::chrono::milliseconds Lag() {
  Runtime& runtime = TheRuntime();
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  return runtime.machine.lag;
}

}  // namespace

void Marker::Set() {
  const std::lock_guard<std::mutex> lock(mutex_);
  set_ = true;
  time_ = std::chrono::steady_clock::now();
  changed_.notify_all();
}

bool Marker::IsSet() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return set_;
}

void Marker::Await() const {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return set_; });
}

std::shared_ptr<Queue> Queue::Start(int device) {
  const std::shared_ptr<Queue> queue(new Queue(device));
  std::thread([queue] { queue->Serve(); }).detach();
  return queue;
}

void Queue::Serve() {
  current_device = device_;
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return closed_ || !work_.empty(); });
    if (work_.empty()) return;
    lock.unlock();
    const std::chrono::milliseconds lag = Lag();
    lock.lock();
    changed_.wait_for(lock, lag, [this] { return closed_ || urged_; });
    urged_ = true;  // Until all is done.
    const Work work = std::move(work_.front());
    work_.pop_front();
    busy_ = true;
    lock.unlock();
    if (const cudaError_t failed = work(); failed != cudaSuccess) SpoilDevice(device_, failed);
    lock.lock();
    busy_ = false;
    if (work_.empty()) urged_ = false;
    changed_.notify_all();
  }
}

void Queue::Put(Work work) {
  const std::lock_guard<std::mutex> lock(mutex_);
  work_.push_back(std::move(work));
  changed_.notify_all();
}

bool Queue::Idle() {
  Urge();
  const std::lock_guard<std::mutex> lock(mutex_);
  return work_.empty() && !busy_;
}

void Queue::Urge() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (work_.empty() || urged_) return;
  urged_ = true;
  changed_.notify_all();
}

void Queue::AwaitIdle() {
  Urge();
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return work_.empty() && !busy_; });
}

void Queue::Close() {
  const std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

namespace {

std::vector<cudaStream_t> StreamsOfThisDevice() {
  Runtime& runtime = TheRuntime();
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  return runtime.devices[static_cast<size_t>(current_device)].streams;
}

cudaError_t Spoiled() {
  Runtime& runtime = TheRuntime();
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  return runtime.devices[static_cast<size_t>(current_device)].spoiled;
}

// Work on the null stream comes after all that blocking streams were given, and is done when the call returns.
cudaError_t RunOnNullStream(const Work& work) {
  for (const cudaStream_t stream : StreamsOfThisDevice()) {
    if (stream->flags & cudaStreamNonBlocking) continue;
    if (stream->capture != nullptr) {
      stream->capture->invalidated = true;
      return cudaErrorStreamCaptureImplicit;
    }
    stream->queue->AwaitIdle();
  }
  if (const cudaError_t spoiled = Spoiled(); spoiled != cudaSuccess) return spoiled;
  const cudaError_t failed = work();
  if (failed != cudaSuccess) SpoilDevice(current_device, failed);
  return cudaSuccess;
}

}  // namespace

cudaError_t Enqueue(cudaStream_t stream, Work work) {
  if (stream == nullptr) return RunOnNullStream(work);
  if (stream->capture != nullptr) {
    if (stream->capture->invalidated) return cudaErrorStreamCaptureInvalidated;
    stream->capture->work.push_back(std::move(work));
    return cudaSuccess;
  }
  const int device = stream->device;
  stream->queue->Put([device, work = std::move(work)]() -> cudaError_t {
    Runtime& runtime = TheRuntime();
    {
      const std::lock_guard<std::mutex> lock(runtime.mutex);
      if (runtime.devices[static_cast<size_t>(device)].spoiled != cudaSuccess) return cudaSuccess;  // Nothing runs.
    }
    return work();
  });
  return cudaSuccess;
}

cudaError_t OutsideOfCaptures() {
  Runtime& runtime = TheRuntime();
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  if (captures_of_this_thread == 0 && runtime.global_captures == 0) return cudaSuccess;
  for (Device& device : runtime.devices) {
    for (const cudaStream_t stream : device.streams) {
      if (stream->capture != nullptr) stream->capture->invalidated = true;
    }
  }
  return cudaErrorStreamCaptureUnsupported;
}

}  // namespace tandem::emulation

using tandem::emulation::Marker;
using tandem::emulation::OutsideOfCaptures;
using tandem::emulation::Queue;
using tandem::emulation::Result;
using tandem::emulation::Runtime;
using tandem::emulation::TheRuntime;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
  EMULATED_CALL("cudaStreamCreate");
  const int device = tandem::emulation::current_device;
  *stream = new CUstream_st{device, flags, Queue::Start(device), nullptr};
  Runtime& runtime = TheRuntime();
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  runtime.devices[static_cast<size_t>(device)].streams.push_back(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

// Handles go even where the device is spoiled: a process that ends cleans up.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (stream == nullptr) return Result(cudaErrorInvalidResourceHandle);
  Runtime& runtime = TheRuntime();
  {
    const std::lock_guard<std::mutex> lock(runtime.mutex);
    if (stream->device < static_cast<int>(runtime.devices.size())) {
      std::erase(runtime.devices[static_cast<size_t>(stream->device)].streams, stream);
    }
  }
  stream->queue->Close();
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  EMULATED_CALL("cudaStreamSynchronize");
  if (stream == nullptr) return Result(tandem::emulation::Enqueue(nullptr, [] { return cudaSuccess; }));
  if (stream->capture != nullptr) {
    stream->capture->invalidated = true;
    return Result(cudaErrorStreamCaptureUnsupported);
  }
  if (const cudaError_t failed = OutsideOfCaptures(); failed != cudaSuccess) return Result(failed);
  stream->queue->AwaitIdle();
  return Result(tandem::emulation::Spoiled());
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  EMULATED_CALL("cudaStreamQuery");
  if (stream == nullptr) return cudaSuccess;
  if (stream->capture != nullptr) {
    stream->capture->invalidated = true;
    return Result(cudaErrorStreamCaptureUnsupported);
  }
  if (!stream->queue->Idle()) return cudaErrorNotReady;
  return Result(tandem::emulation::Spoiled());
}

cudaError_t cudaDeviceSynchronize() {
  EMULATED_CALL("cudaDeviceSynchronize");
  if (const cudaError_t failed = OutsideOfCaptures(); failed != cudaSuccess) return Result(failed);
  for (const cudaStream_t stream : tandem::emulation::StreamsOfThisDevice()) stream->queue->AwaitIdle();
  return Result(tandem::emulation::Spoiled());
}

cudaError_t cudaDeviceReset() { return cudaDeviceSynchronize(); }

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  EMULATED_CALL("cudaLaunchHostFunc");
  return Result(tandem::emulation::Enqueue(stream, [=] {
    // One at a time in the whole process, as a driver may run them: one that waits for another waits for ever.
    static std::mutex one_at_a_time;
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    function(data);
    return cudaSuccess;
  }));
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
  EMULATED_CALL("cudaEventCreate");
  *event = new CUevent_st{flags, nullptr, nullptr, nullptr};
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  EMULATED_CALL("cudaEventRecord");
  event->capture = stream == nullptr ? nullptr : stream->capture;
  if (event->capture != nullptr) return cudaSuccess;  // An edge of the graph; its order is the order of calls.
  const auto marker = std::make_shared<Marker>();
  event->marker = marker;
  const auto set = [marker] {
    marker->Set();
    return cudaSuccess;
  };
  event->queue = stream == nullptr ? nullptr : stream->queue;
  if (stream == nullptr) return Result(tandem::emulation::Enqueue(nullptr, set));
  stream->queue->Put(set);  // On a spoiled device too: nobody waits for ever.
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  EMULATED_CALL("cudaEventQuery");
  if (event->capture != nullptr) return Result(cudaErrorStreamCaptureUnsupported);
  if (event->queue != nullptr) event->queue->Urge();
  if (event->marker != nullptr && !event->marker->IsSet()) return cudaErrorNotReady;
  return Result(tandem::emulation::Spoiled());
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  EMULATED_CALL("cudaEventSynchronize");
  if (event->capture != nullptr) return Result(cudaErrorStreamCaptureUnsupported);
  if (const cudaError_t failed = OutsideOfCaptures(); failed != cudaSuccess) return Result(failed);
  if (event->queue != nullptr) event->queue->Urge();
  if (event->marker != nullptr) event->marker->Await();
  return Result(tandem::emulation::Spoiled());
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  EMULATED_CALL("cudaEventElapsedTime");
  if (start->marker == nullptr || end->marker == nullptr || ((start->flags | end->flags) & cudaEventDisableTiming)) {
    return Result(cudaErrorInvalidResourceHandle);
  }
  if (!start->marker->IsSet() || !end->marker->IsSet()) return cudaErrorNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(end->marker->time() - start->marker->time()).count();
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
  EMULATED_CALL("cudaStreamWaitEvent");
  if (event->capture != nullptr) {
    if (stream == nullptr) return Result(cudaErrorStreamCaptureImplicit);
    if (stream->capture == nullptr) {
      stream->capture = event->capture;
      event->capture->joined.push_back(stream);
    }
    return stream->capture == event->capture ? cudaSuccess : Result(cudaErrorStreamCaptureInvalidated);
  }
  const auto marker = event->marker;
  if (marker == nullptr) return cudaSuccess;
  return Result(tandem::emulation::Enqueue(stream, [marker] {
    marker->Await();
    return cudaSuccess;
  }));
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  EMULATED_CALL("cudaStreamBeginCapture");
  if (stream == nullptr) return Result(cudaErrorStreamCaptureUnsupported);
  if (stream->capture != nullptr) return Result(cudaErrorStreamCaptureInvalidated);
  stream->capture = std::make_shared<tandem::emulation::Capture>();
  stream->capture->origin = stream;
  stream->capture->mode = mode;
  stream->capture->thread = std::this_thread::get_id();
  if (mode != cudaStreamCaptureModeRelaxed) ++tandem::emulation::captures_of_this_thread;
  Runtime& runtime = TheRuntime();
  const std::lock_guard<std::mutex> lock(runtime.mutex);
  if (mode == cudaStreamCaptureModeGlobal) ++runtime.global_captures;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  EMULATED_CALL("cudaStreamEndCapture");
  *graph = nullptr;
  if (stream == nullptr || stream->capture == nullptr) return Result(cudaErrorStreamCaptureUnmatched);
  const auto capture = std::move(stream->capture);
  stream->capture = nullptr;
  for (const cudaStream_t joined : capture->joined) joined->capture = nullptr;
  if (capture->mode != cudaStreamCaptureModeRelaxed) {
    if (capture->thread != std::this_thread::get_id()) return Result(cudaErrorStreamCaptureWrongThread);
    --tandem::emulation::captures_of_this_thread;
  }
  if (capture->mode == cudaStreamCaptureModeGlobal) {
    Runtime& runtime = TheRuntime();
    const std::lock_guard<std::mutex> lock(runtime.mutex);
    --runtime.global_captures;
  }
  if (capture->invalidated) return Result(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{std::move(capture->work)};
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  EMULATED_CALL("cudaStreamIsCapturing");
  *status = stream == nullptr || stream->capture == nullptr ? cudaStreamCaptureStatusNone
            : stream->capture->invalidated                  ? cudaStreamCaptureStatusInvalidated
                                                            : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  EMULATED_CALL("cudaGraphGetNodes");
  if (nodes != nullptr) return Result(cudaErrorNotSupported);  // Here nodes are counted, no more.
  *count = graph->work.size();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  EMULATED_CALL("cudaGraphInstantiate");
  *executable = new CUgraphExec_st{std::make_shared<const std::vector<tandem::emulation::Work>>(graph->work)};
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  EMULATED_CALL("cudaGraphUpload");
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  EMULATED_CALL("cudaGraphLaunch");
  return Result(tandem::emulation::Enqueue(stream, [work = executable->work] {
    for (const tandem::emulation::Work& one : *work) {
      if (const cudaError_t failed = one(); failed != cudaSuccess) return failed;
    }
    return cudaSuccess;
  }));
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
