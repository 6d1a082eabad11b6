// A Doorbell lets one rank sleep until another has changed something in shared memory.
//
// It is a futex with a count of sleepers. The sleeper raises the count, reads the word, looks at its condition once
// more, and sleeps only while the word stands still. The other side changes the condition, then looks at the count, and
// rings only if somebody sleeps. Both sides use sequentially consistent operations, so at least one of the two sees the
// other:
//
//     sleeper                         changer
//     ++sleepers                      condition = true
//     seen = word                     if (sleepers > 0) { ++word; wake; }
//     if (!condition) wait(word, seen)
//
// Thus a change costs one load of a shared cache line while everyone is awake, and a system call only to wake. A
// sleeper that was killed leaves the count too high, which costs needless wakes and nothing else.
//
// Lives in zeroed shared memory; any thread of any process may ring or sleep.
#ifndef TANDEM_WORKER_COMM_DOORBELL_H_
#define TANDEM_WORKER_COMM_DOORBELL_H_

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>
#include <ctime>

namespace tandem::worker {

class Doorbell {
 public:
  // Wakes all sleepers. Call after the condition has been changed by a sequentially consistent store.
  void Ring() {
    if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
    word_.fetch_add(1, std::memory_order_seq_cst);
    syscall(SYS_futex, Word(), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  }

  // Sleeps until rung, `limit_ns` passed, or a signal came; not at all if `done()` is true already.
  template <typename Done>
  void Sleep(int64_t limit_ns, Done done) {
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    uint32_t seen = word_.load(std::memory_order_seq_cst);
    if (!done()) {
      timespec limit{.tv_sec = limit_ns / 1'000'000'000, .tv_nsec = limit_ns % 1'000'000'000};
      syscall(SYS_futex, Word(), FUTEX_WAIT, seen, &limit, nullptr, 0);
    }
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }

 private:
  uint32_t* Word() { return reinterpret_cast<uint32_t*>(&word_); }

  std::atomic<uint32_t> word_;
  std::atomic<uint32_t> sleepers_;
};

static_assert(std::atomic<uint32_t>::is_always_lock_free && sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_COMM_DOORBELL_H_
