// One worker for each device of this machine: whoever holds the lock of a device's uuid has it.
//
// The lock is an abstract socket, which the kernel gives back with the process, however it ended, and which says who
// holds it. It reaches as far as a network namespace: containers with networks of their own do not see each other's.
#ifndef TANDEM_WORKER_DEVICE_LOCK_H_
#define TANDEM_WORKER_DEVICE_LOCK_H_

#include <string>

#include "absl/status/statusor.h"
#include "worker/comm/unique_fd.h"

namespace tandem::worker {

class DeviceLock {
 public:
  // ALREADY_EXISTS naming the process that has it.
  static absl::StatusOr<DeviceLock> Take(const std::string& uuid);

 private:
  explicit DeviceLock(UniqueFd socket) : socket_(std::move(socket)) {}

  UniqueFd socket_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_DEVICE_LOCK_H_
