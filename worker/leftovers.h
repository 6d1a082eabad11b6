// What processes that ended, or are ending, still hold of a GPU: waited for before the device is offered again.
//
// The driver gives memory back when it has taken a process's context down, which can take seconds after a kill. Until
// then NVML lists the process, or already does not and the memory is not free yet. What would be planned with before
// that, the device would refuse.
#ifndef TANDEM_WORKER_LEFTOVERS_H_
#define TANDEM_WORKER_LEFTOVERS_H_

#include <chrono>
#include <string>

#include "worker/topology/nvml_device.h"

namespace tandem::worker {

// Waits until NVML lists no process that is dead or dying, and, if it had, until free memory has stopped to grow; at
// most for `patience`. A process of another container looks dead from here, so the wait ends with a word in the log.
// `name` stands there; `root` stands before /proc, for tests.
void AwaitLeftovers(const NvmlDeviceMonitor& device, const std::string& name, std::chrono::milliseconds patience,
                    const std::string& root);

// Whether the process has ended, is a zombie, or is being taken down by the kernel.
bool HasEnded(int pid, const std::string& root);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_LEFTOVERS_H_
