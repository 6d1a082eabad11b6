#include "worker/comm/shared_region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tandem::worker {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

}  // namespace

SharedRegion::SharedRegion(UniqueFd fd, uint8_t* data, uint64_t bytes)
    : fd_(std::move(fd)), data_(data), bytes_(bytes) {}

SharedRegion::SharedRegion(SharedRegion&& other) noexcept
    : fd_(std::move(other.fd_)), data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

SharedRegion::~SharedRegion() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

absl::StatusOr<SharedRegion> SharedRegion::Create(uint64_t bytes) {
  if (bytes == 0 || bytes > static_cast<uint64_t>(std::numeric_limits<off_t>::max())) {
    return absl::InvalidArgumentError(absl::StrCat("shared memory of ", bytes, " bytes is not possible"));
  }
  UniqueFd fd(memfd_create("tandem-group", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, "memfd_create for a group's shared memory");
  // Reserves the pages too: a full machine answers here and not with a signal at the first write.
  if (int error = posix_fallocate(fd.get(), 0, static_cast<off_t>(bytes)); error != 0) {
    return absl::ErrnoToStatus(error, absl::StrCat("reserving ", bytes, " bytes of shared memory"));
  }
  if (fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) return absl::ErrnoToStatus(errno, "sealing shared memory");
  return MapSealed(std::move(fd), bytes);
}

absl::StatusOr<SharedRegion> SharedRegion::Map(UniqueFd fd, uint64_t expected_bytes) {
  struct stat stat;
  if (fstat(fd.get(), &stat) != 0) return absl::ErrnoToStatus(errno, "fstat of received shared memory");
  if (stat.st_size < 0 || static_cast<uint64_t>(stat.st_size) != expected_bytes) {
    return absl::FailedPreconditionError(
        absl::StrFormat("received shared memory has %d bytes, %d were announced", stat.st_size, expected_bytes));
  }
  int seals = fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) {
    return absl::FailedPreconditionError("received shared memory is not sealed against a change of its size");
  }
  return MapSealed(std::move(fd), expected_bytes);
}

absl::StatusOr<SharedRegion> SharedRegion::MapSealed(UniqueFd fd, uint64_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd.get(), 0);
  if (data == MAP_FAILED) {
    return absl::ErrnoToStatus(errno, absl::StrCat("mapping ", bytes, " bytes of shared memory"));
  }
  return SharedRegion(std::move(fd), static_cast<uint8_t*>(data), bytes);
}

}  // namespace tandem::worker
