// One thread block at work: its threads as coroutines, its barriers, its warps' meetings and its shared memory.
//
// Threads run one after the other on the calling thread, each until it has to wait. A block in which nobody can go on
// although somebody waits has diverged: that is reported with who waits where, and the launch fails as it would on a
// device (cudaErrorLaunchFailure). The order of the threads is theirs to count on for nothing; TurnAround() runs them
// from the last to the first.
#ifndef TANDEM_TESTS_EMULATION_BLOCK_H_
#define TANDEM_TESTS_EMULATION_BLOCK_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include "tests/emulation/coroutine.h"
#include "tests/emulation/launch_counter.h"
#include "tests/emulation/shared_memory.h"
#include "tests/emulation/vector_types.h"

namespace tandem::emulation {

// A copy from global to shared memory that a thread has begun (cp.async) and not waited for yet.
struct PendingCopy {
  size_t offset = 0;  // in the block's shared memory
  const void* source = nullptr;
  bool valid = true;  // else zeros arrive
};

struct Thread {
  uint3 index = {};
  int32_t number = 0;  // in the block
  int32_t lane = 0;
  int32_t warp = 0;
  bool waits = false;
  std::vector<PendingCopy> begun;                // since the last commit
  std::vector<std::vector<PendingCopy>> groups;  // committed, oldest first
  std::vector<Access> accesses;                  // since its lane last met others, where they are counted
  Coroutine coroutine;
};

class Block {
 public:
  Block();
  ~Block();

  struct Launch {
    std::string kernel;
    dim3 grid;
    dim3 block;
    size_t dynamic_shared_bytes = 0;
    size_t most_shared_bytes = 0;  // with the static arrays
    std::function<void()> body;    // what one thread does
  };

  // Runs the blocks of a launch one after the other. False after a divergence: the rest has not run.
  bool Run(const Launch& launch);

  // The block and the thread that run on this operating system thread; null outside of kernels.
  static Block* current();

  // Where kernels come in.
  void Synchronize(std::source_location where);
  // The lanes of `mask` meet here; the last one to arrive calls complete(contributions by lane), then all go on.
  void Meet(const char* what, uint32_t mask, void* contribution, void (*complete)(void* const*, uint32_t),
            std::source_location where);

  // Notes what the running thread does to shared memory, at the place that called; for nothing unless it is counted.
  [[gnu::noinline]] void NoteShared(AccessKind kind, ptrdiff_t offset, size_t bytes);

  SharedMemory& shared() { return shared_; }
  LaunchCounter* counter() { return counter_.get(); }  // null: nobody counts
  const Launch& launch() const { return *launch_; }
  uint3 index() const { return index_; }

 private:
  struct Meeting {
    const char* what;
    uint32_t mask;
    uint32_t arrived = 0;
    void* contributions[32] = {};
    std::source_location where;
  };
  struct Warp {
    std::vector<std::unique_ptr<Meeting>> meetings;
  };

  static void RunThread(void* thread);
  bool RunOne();
  void CountWarp(int32_t warp, uint32_t mask);
  std::string Place() const;
  void ReportDeadlock();

  const Launch* launch_ = nullptr;
  uint3 index_ = {};
  std::vector<std::unique_ptr<Thread>> threads_;  // kept between launches
  int32_t count_ = 0;
  std::vector<Warp> warps_;
  int32_t ended_ = 0;
  int32_t at_barrier_ = 0;
  std::source_location barrier_where_;
  bool diverged_ = false;
  SharedMemory shared_;
  std::unique_ptr<LaunchCounter> counter_;
};

// The thread that runs, for threadIdx and its like.
extern thread_local constinit Thread* current_thread;
extern thread_local constinit Block* current_block;

// Tests run a kernel in both orders.
void TurnAround(bool last_first);

}  // namespace tandem::emulation

#endif  // TANDEM_TESTS_EMULATION_BLOCK_H_
