// A SharedRegion is memory that several processes map: an anonymous file (memfd) whose size is sealed.
//
// The seals are what makes a foreign region safe to read: nobody can shrink it under a reader, who would die of SIGBUS.
// Every mapper checks seals and size before it maps. Pages are populated at once, so that a lack of memory shows when
// the group forms. The memory goes when the last process has unmapped it, however that process ended: nothing is left
// in /dev/shm, and its size limit does not apply.
//
// Contents start as zeros. What they mean, and who may write what, is the business of GroupMemory.
#ifndef TANDEM_WORKER_COMM_SHARED_REGION_H_
#define TANDEM_WORKER_COMM_SHARED_REGION_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "worker/comm/unique_fd.h"

namespace tandem::worker {

class SharedRegion {
 public:
  static absl::StatusOr<SharedRegion> Create(uint64_t bytes);

  // Maps a region that another process made. FAILED_PRECONDITION where it is not sealed or not of that size.
  static absl::StatusOr<SharedRegion> Map(UniqueFd fd, uint64_t expected_bytes);

  SharedRegion(SharedRegion&& other) noexcept;
  SharedRegion& operator=(SharedRegion&&) = delete;
  ~SharedRegion();

  uint8_t* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }
  int fd() const { return fd_.get(); }

 private:
  SharedRegion(UniqueFd fd, uint8_t* data, uint64_t bytes);
  static absl::StatusOr<SharedRegion> MapSealed(UniqueFd fd, uint64_t bytes);

  UniqueFd fd_;
  uint8_t* data_;
  uint64_t bytes_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_COMM_SHARED_REGION_H_
