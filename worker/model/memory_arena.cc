#include "worker/model/memory_arena.h"

#include <glog/logging.h>
#include <sys/mman.h>

#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/model/model_memory.h"

namespace tandem::worker {
namespace {

constexpr int64_t kPage = 4096;
constexpr int64_t kHugePage = 2 << 20;
constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE, Linux 5.14; older headers do not name it

}  // namespace

MemoryArena::~MemoryArena() {
  if (base_ != nullptr) munmap(base_, static_cast<size_t>(mapped_));
}

MemoryArena::MemoryArena(MemoryArena&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      mapped_(std::exchange(other.mapped_, 0)),
      taken_(std::exchange(other.taken_, 0)) {}

MemoryArena& MemoryArena::operator=(MemoryArena&& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(bytes_, other.bytes_);
  std::swap(mapped_, other.mapped_);
  std::swap(taken_, other.taken_);
  return *this;
}

absl::StatusOr<MemoryArena> MemoryArena::Map(int64_t bytes) {
  MemoryArena arena;
  if (bytes <= 0) return arena;
  // A small arena in huge pages would waste most of one.
  const bool huge = bytes >= kHugePage;
  // The end is rounded to small pages only: the rest of a last huge page would be paid for and never used.
  const int64_t mapped = model::RoundUp(bytes, kPage);
  const int64_t reserved = mapped + (huge ? kHugePage : 0);
  void* const address =
      mmap(nullptr, static_cast<size_t>(reserved), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat("the system refuses a mapping of ", reserved, " bytes"));
  }
  auto* base = static_cast<uint8_t*>(address);
  if (huge) {  // Cut the ends off, so that the arena begins on a huge page.
    const int64_t front =
        model::RoundUp(reinterpret_cast<intptr_t>(base), kHugePage) - reinterpret_cast<intptr_t>(base);
    if (front > 0) munmap(base, static_cast<size_t>(front));
    base += front;
    if (kHugePage > front) munmap(base + mapped, static_cast<size_t>(kHugePage - front));
    madvise(base, static_cast<size_t>(mapped), MADV_HUGEPAGE);  // Advice: small pages only cost time.
  }
  arena.base_ = base;
  arena.bytes_ = bytes;
  arena.mapped_ = mapped;
  return arena;
}

absl::Status MemoryArena::Reside() {
  if (base_ == nullptr || madvise(base_, static_cast<size_t>(mapped_), kPopulateWrite) == 0) return absl::OkStatus();
  if (errno == ENOMEM || errno == EFAULT) {
    return absl::ResourceExhaustedError(absl::StrCat("the system has no pages for ", mapped_, " bytes"));
  }
  // A kernel that does not know the advice: one byte of each page does the same.
  for (int64_t at = 0; at < mapped_; at += kPage) {
    volatile uint8_t* const byte = base_ + at;
    *byte = *byte;
  }
  return absl::OkStatus();
}

uint8_t* MemoryArena::Take(int64_t bytes) {
  uint8_t* const start = base_ + taken_;
  taken_ += model::RoundUp(bytes, model::kBufferAlignment);
  CHECK_LE(taken_, bytes_) << "the arena was sized by another formula than it is used by";
  return start;
}

}  // namespace tandem::worker
