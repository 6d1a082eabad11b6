// How tests arrange the emulated machine, and where other fakes (cuBLASLt, NCCL) put their work on a stream.
//
// The environment says the same to a program that is started: TANDEM_EMULATION_DEVICES (2), TANDEM_EMULATION_MEMORY
// (bytes of each device, 1 GiB), TANDEM_EMULATION_BRIDGES (1: NVLink in pairs), TANDEM_EMULATION_FAIL (see FailCall:
// "cudaMalloc:3:2,cudaLaunchKernel:1:700"). CUDA_VISIBLE_DEVICES is followed, with numbers and with "GPU-" ids.
#ifndef TANDEM_TESTS_EMULATION_CONTROL_H_
#define TANDEM_TESTS_EMULATION_CONTROL_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "tests/emulation/runtime_api.h"

namespace tandem::emulation {

struct Machine {
  int devices = 2;
  size_t memory_bytes = size_t{1} << 30;
  size_t taken_bytes = 0;  // of each device, by nobody in this process
  int multiprocessors = 4;
  bool peer_access = true;
  bool bridges = false;  // NVLink between 0 and 1, 2 and 3
  // How long work lies on a stream that nobody asks after: longer than a host needs to go on after a call.
  std::chrono::milliseconds lag{2};
};

// A new machine: all devices as new, no call to fail. REQUIRES: nothing of the old one is in use any more.
void SetMachine(const Machine& machine);

// The `nth` call (from 1) of the runtime function `call` from now on fails with `error`. Where the error is one that
// stays, every later call on the device fails with it. A kernel's own failure comes from "kernel".
void FailCall(const std::string& call, int64_t nth, cudaError_t error);

// Puts work on a stream: it runs there later, or is recorded where the stream is being captured. What it returns, if
// no success, becomes the device's error.
cudaError_t Enqueue(cudaStream_t stream, std::function<cudaError_t()> work);

// The device's error until SetMachine: what a kernel that went wrong does.
void SpoilDevice(int device, cudaError_t error);

// Whether this process has a context on the device: since CUDA 12 every call but a mere question makes one on the
// thread's current device, cudaSetDevice among them, and it stays, with some hundred MiB.
bool HasContext(int device);

// Bytes that cudaMalloc has given out on a device, and how often it was called since the start.
size_t AllocatedBytes(int device);
int64_t CallsOf(const std::string& call);

}  // namespace tandem::emulation

#endif  // TANDEM_TESTS_EMULATION_CONTROL_H_
