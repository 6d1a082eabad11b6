#include "tests/emulation/block.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "tests/emulation/findings.h"

namespace tandem::emulation {

thread_local constinit Thread* current_thread = nullptr;
thread_local constinit Block* current_block = nullptr;

namespace {

std::atomic<bool> last_first{false};

std::string Line(const std::source_location& where) {
  const std::string file = where.file_name();
  return absl::StrCat(file.substr(file.rfind('/') + 1), ":", where.line());
}

}  // namespace

void TurnAround(bool turned) { last_first.store(turned); }

Block::Block() = default;
Block::~Block() = default;

Block* Block::current() { return current_block; }

bool Block::Run(const Launch& launch) {
  launch_ = &launch;
  count_ = static_cast<int32_t>(launch.block.x * launch.block.y * launch.block.z);
  while (static_cast<int32_t>(threads_.size()) < count_) threads_.push_back(std::make_unique<Thread>());
  for (int32_t i = 0; i < count_; ++i) {
    Thread& thread = *threads_[static_cast<size_t>(i)];
    const unsigned int n = static_cast<unsigned int>(i);
    thread.index = {n % launch.block.x, n / launch.block.x % launch.block.y, n / (launch.block.x * launch.block.y)};
    thread.number = i;
    thread.lane = i % 32;
    thread.warp = i / 32;
  }
  warps_.resize(static_cast<size_t>(count_ + 31) / 32);
  if (CountsAccesses()) counter_ = std::make_unique<LaunchCounter>(launch.kernel);
  bool good = true;
  for (index_.z = 0; good && index_.z < launch.grid.z; ++index_.z) {
    for (index_.y = 0; good && index_.y < launch.grid.y; ++index_.y) {
      for (index_.x = 0; good && index_.x < launch.grid.x; ++index_.x) good = RunOne();
    }
  }
  counter_.reset();
  return good;
}

void Block::RunThread(void*) { current_block->launch_->body(); }

bool Block::RunOne() {
  shared_.Begin(&launch_->kernel, launch_->dynamic_shared_bytes, launch_->most_shared_bytes);
  ended_ = 0;
  at_barrier_ = 0;
  diverged_ = false;
  for (Warp& warp : warps_) warp.meetings.clear();
  for (int32_t i = 0; i < count_; ++i) {
    Thread& thread = *threads_[static_cast<size_t>(i)];
    thread.waits = false;
    thread.begun.clear();
    thread.groups.clear();
    thread.accesses.clear();
    thread.coroutine.Prepare(&Block::RunThread, nullptr);
  }
  if (counter_ != nullptr) counter_->BeginBlock();
  current_block = this;
  const bool turned = last_first.load(std::memory_order_relaxed);
  while (ended_ < count_ && !diverged_) {
    bool moved = false;
    for (int32_t i = 0; i < count_ && !diverged_; ++i) {
      Thread& thread = *threads_[static_cast<size_t>(turned ? count_ - 1 - i : i)];
      if (thread.waits || thread.coroutine.done()) continue;
      moved = true;
      current_thread = &thread;
      thread.coroutine.Resume();
      if (thread.coroutine.done()) ++ended_;
    }
    if (!moved) {
      ReportDeadlock();
      diverged_ = true;
    }
  }
  current_thread = nullptr;
  current_block = nullptr;
  for (size_t warp = 0; counter_ != nullptr && warp < warps_.size(); ++warp) {
    CountWarp(static_cast<int32_t>(warp), 0xffffffffu);
  }
  return !diverged_;
}

// Lanes that have ended before the others met belong to what those did together until then.
void Block::CountWarp(int32_t warp, uint32_t mask) {
  std::vector<Access>* lanes[32] = {};
  for (int32_t lane = 0; lane < 32 && warp * 32 + lane < count_; ++lane) {
    Thread& thread = *threads_[static_cast<size_t>(warp * 32 + lane)];
    if ((mask >> lane & 1) != 0 || thread.coroutine.done()) lanes[lane] = &thread.accesses;
  }
  counter_->Assemble(lanes);
}

void Block::NoteShared(AccessKind kind, ptrdiff_t offset, size_t bytes) {
  counter_->NoteShared(current_thread->accesses, kind, static_cast<size_t>(offset), bytes,
                       reinterpret_cast<uintptr_t>(__builtin_return_address(0)));
}

std::string Block::Place() const { return absl::StrCat("block ", index_.x, ",", index_.y, ",", index_.z); }

void Block::ReportDeadlock() {
  std::string waiting;
  if (at_barrier_ > 0) {
    waiting = absl::StrCat("; ", at_barrier_, " of ", count_, " threads wait at the barrier of ", Line(barrier_where_));
  }
  for (size_t warp = 0; warp < warps_.size(); ++warp) {
    for (const auto& meeting : warps_[warp].meetings) {
      absl::StrAppend(&waiting, "; in warp ", warp, " the lanes ", absl::Hex(meeting->arrived, absl::kZeroPad8), " of ",
                      absl::Hex(meeting->mask, absl::kZeroPad8), " wait in ", meeting->what, " of ",
                      Line(meeting->where));
    }
  }
  Report(absl::StrCat(launch_->kernel, ": the threads of ", Place(), " diverged, ", ended_, " have ended", waiting));
}

void Block::Synchronize(std::source_location where) {
  Thread& self = *current_thread;
  if (at_barrier_ == 0) {
    barrier_where_ = where;
  } else if (where.line() != barrier_where_.line() || where.column() != barrier_where_.column()) {
    Report(absl::StrCat(launch_->kernel, ": thread ", self.number, " of ", Place(), " is at the barrier of ",
                        Line(where), " while others wait at that of ", Line(barrier_where_)));
    diverged_ = true;
    Coroutine::Suspend();
  }
  if (++at_barrier_ < count_) {
    self.waits = true;
    Coroutine::Suspend();
    return;
  }
  at_barrier_ = 0;
  shared_.PassBarrier();
  if (counter_ != nullptr) {
    counter_->PassBarrier();
    for (size_t warp = 0; warp < warps_.size(); ++warp) CountWarp(static_cast<int32_t>(warp), 0xffffffffu);
  }
  for (int32_t i = 0; i < count_; ++i) threads_[static_cast<size_t>(i)]->waits = false;
}

void Block::Meet(const char* what, uint32_t mask, void* contribution, void (*complete)(void* const*, uint32_t),
                 std::source_location where) {
  Thread& self = *current_thread;
  Warp& warp = warps_[static_cast<size_t>(self.warp)];
  const uint32_t bit = uint32_t{1} << self.lane;
  const int32_t first = self.warp * 32;
  for (int32_t lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    if (first + lane < count_ && !threads_[static_cast<size_t>(first + lane)]->coroutine.done()) continue;
    Report(absl::StrCat(launch_->kernel, ": ", what, " of ", Line(where), " by thread ", self.number, " of ", Place(),
                        " names lane ", lane, ", which ", first + lane < count_ ? "has ended" : "is not there"));
    diverged_ = true;
    Coroutine::Suspend();
  }
  if ((mask & bit) == 0) {
    Report(absl::StrCat(launch_->kernel, ": ", what, " of ", Line(where), " by thread ", self.number, " of ", Place(),
                        " does not name its own lane"));
    diverged_ = true;
    Coroutine::Suspend();
  }
  Meeting* meeting = nullptr;
  for (const auto& one : warp.meetings) {
    if (one->mask == mask && std::strcmp(one->what, what) == 0) meeting = one.get();
  }
  if (meeting != nullptr && (meeting->where.line() != where.line() || meeting->where.column() != where.column())) {
    // Lanes of two branches. A shuffle might still bring them together; a tensor core's instruction does not.
    Report(absl::StrCat(launch_->kernel, ": ", what, " of ", Line(where), " by thread ", self.number, " of ", Place(),
                        " while other lanes wait in that of ", Line(meeting->where)));
    diverged_ = true;
    Coroutine::Suspend();
  }
  if (meeting == nullptr) {
    warp.meetings.push_back(std::make_unique<Meeting>(Meeting{what, mask, 0, {}, where}));
    meeting = warp.meetings.back().get();
  }
  meeting->arrived |= bit;
  meeting->contributions[self.lane] = contribution;
  if (meeting->arrived != mask) {
    self.waits = true;
    Coroutine::Suspend();
    return;
  }
  complete(meeting->contributions, mask);
  if (counter_ != nullptr) CountWarp(self.warp, mask);
  for (int32_t lane = 0; lane < 32; ++lane) {
    if (mask >> lane & 1) threads_[static_cast<size_t>(first + lane)]->waits = false;
  }
  std::erase_if(warp.meetings, [meeting](const auto& one) { return one.get() == meeting; });
}

}  // namespace tandem::emulation
