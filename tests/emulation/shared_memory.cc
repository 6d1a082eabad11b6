#include "tests/emulation/shared_memory.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "tests/emulation/block.h"
#include "tests/emulation/findings.h"

namespace tandem::emulation {
namespace {

constexpr size_t kAlignment = 128;
constexpr int kRacesReported = 3;  // of a block; one mistake shows in many places
constexpr size_t kMostWarps = 32;

std::string ThreadName(int32_t number) {
  return number < 0 ? "several threads" : absl::StrCat("thread ", number, " (warp ", number / 32, ")");
}

}  // namespace

SharedMemory::SharedMemory()
    : bytes_(kStaticBytes + kMostBytes + kAlignment), notes_(bytes_.size() / kGrain), warp_times_(kMostWarps, 0) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(bytes_.data());
  base_ = bytes_.data() + ((kAlignment - address % kAlignment) % kAlignment);
}

void SharedMemory::Begin(const std::string* kernel, size_t dynamic_bytes, size_t most_bytes) {
  kernel_ = kernel;
  named_.clear();
  static_end_ = 0;
  dynamic_bytes_ = dynamic_bytes;
  most_bytes_ = most_bytes;
  races_ = 0;
  ++block_time_;
  std::memset(base_ + kStaticBytes, 0xff, dynamic_bytes);
}

SharedMemory::Array SharedMemory::Static(const void* key, const char* name, size_t bytes, size_t alignment) {
  for (const Named& one : named_) {
    if (one.key == key) return one.array;
  }
  const size_t begin = (static_end_ + alignment - 1) / alignment * alignment;
  if (begin + bytes > kStaticBytes) {
    Report(absl::StrCat(*kernel_, ": static shared memory does not hold ", name, " of ", bytes, " bytes"));
    return {};
  }
  static_end_ = begin + bytes;
  if (static_end_ + dynamic_bytes_ > most_bytes_ && races_++ < kRacesReported) {
    // On a device the launch itself fails: there the compiler has counted.
    Report(absl::StrCat(*kernel_, ": ", static_end_, " bytes of static shared memory and ", dynamic_bytes_,
                        " of dynamic are more than the ", most_bytes_, " that it may have"));
  }
  std::memset(base_ + begin, 0xff, bytes);
  named_.push_back({key, name, {begin, begin + bytes}});
  return named_.back().array;
}

SharedMemory::Array SharedMemory::Dynamic() { return {kStaticBytes, kStaticBytes + dynamic_bytes_}; }

std::string SharedMemory::NameOf(size_t place) const {
  for (const Named& one : named_) {
    if (one.array.begin <= place && place < one.array.end) {
      return absl::StrCat(one.name, " + ", place - one.array.begin, " bytes");
    }
  }
  return absl::StrCat("dynamic shared memory + ", place - kStaticBytes, " bytes");
}

bool SharedMemory::Check(const Array& array, ptrdiff_t offset, size_t bytes, size_t alignment, const char* verb) {
  const bool inside = offset >= 0 && static_cast<size_t>(offset) >= array.begin && offset + bytes <= array.end;
  if (inside && static_cast<size_t>(offset) % alignment == 0) return true;
  if (races_++ < kRacesReported) {
    Report(absl::StrCat(*kernel_, ": ", ThreadName(current_thread->number), " ", verb, " ", bytes, " bytes ",
                        inside ? "at an address that is no multiple of their size" : "out of bounds", ": ",
                        offset - static_cast<ptrdiff_t>(array.begin), " of ", array.end - array.begin, " bytes of ",
                        array.begin == array.end ? "no array" : NameOf(array.begin)));
  }
  return false;
}

// Whether an access at that time comes before everything that the running thread does now.
bool SharedMemory::Ordered(int32_t other_warp, uint64_t time, uint32_t warp_time) const {
  if (time != block_time_) return true;
  return other_warp == current_thread->warp && warp_time != warp_times_[static_cast<size_t>(other_warp)];
}

void SharedMemory::ReportRace(size_t place, const char* verb, int32_t other, const char* other_verb) {
  if (races_++ >= kRacesReported) return;
  const uint3 block = current_block->index();
  Report(absl::StrCat(*kernel_, ": race on ", NameOf(place), ": ", ThreadName(current_thread->number), " ", verb,
                      " what ", ThreadName(other), " ", other_verb, " since the last barrier (block ", block.x, ",",
                      block.y, ",", block.z, ")"));
}

bool SharedMemory::Read(const Array& array, ptrdiff_t offset, void* to, size_t bytes, size_t alignment) {
  if (!Check(array, offset, bytes, alignment, "reads")) return false;
  const size_t begin = static_cast<size_t>(offset);
  const Thread& self = *current_thread;
  const uint32_t warp_time = warp_times_[static_cast<size_t>(self.warp)];
  for (size_t grain = begin / kGrain; grain <= (begin + bytes - 1) / kGrain; ++grain) {
    Note& note = notes_[grain];
    if (note.writer != self.number && note.writer != kNobody &&
        !Ordered(note.writer / 32, note.written, note.written_warp_time)) {
      ReportRace(grain * kGrain, "reads", note.writer, "wrote");
    }
    if (note.read != block_time_) {
      note.read = block_time_;
      note.reader = self.number;
      note.reading_warp = self.warp;
    } else {
      if (note.reader != self.number) note.reader = kSeveral;
      if (note.reading_warp != self.warp) note.reading_warp = kSeveral;
    }
    note.read_warp_time = warp_time;
  }
  std::memcpy(to, base_ + begin, bytes);
  return true;
}

bool SharedMemory::Write(const Array& array, ptrdiff_t offset, const void* from, size_t bytes, size_t alignment) {
  if (!Check(array, offset, bytes, alignment, "writes")) return false;
  const size_t begin = static_cast<size_t>(offset);
  const Thread& self = *current_thread;
  const uint32_t warp_time = warp_times_[static_cast<size_t>(self.warp)];
  for (size_t grain = begin / kGrain; grain <= (begin + bytes - 1) / kGrain; ++grain) {
    Note& note = notes_[grain];
    if (note.writer != self.number && note.writer != kNobody &&
        !Ordered(note.writer / 32, note.written, note.written_warp_time)) {
      ReportRace(grain * kGrain, "writes", note.writer, "wrote");
    }
    if (note.reader != self.number && note.reader != kNobody &&
        !Ordered(note.reading_warp, note.read, note.read_warp_time)) {
      ReportRace(grain * kGrain, "writes", note.reader, "read");
    }
    note.written = block_time_;
    note.written_warp_time = warp_time;
    note.writer = self.number;
  }
  std::memcpy(base_ + begin, from, bytes);
  return true;
}

}  // namespace tandem::emulation
