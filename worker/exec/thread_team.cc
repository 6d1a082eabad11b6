#include "worker/exec/thread_team.h"

namespace tandem::worker {
namespace {

// About 20 us: products of one layer follow each other faster than a sleeper wakes.
constexpr int kSpins = 5000;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Waits until `word` differs from `old`, and returns what it is then.
uint32_t AwaitChange(const std::atomic<uint32_t>& word, uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    const uint32_t now = word.load(std::memory_order_acquire);
    if (now != old) return now;
    Pause();
  }
  word.wait(old, std::memory_order_acquire);
  return word.load(std::memory_order_acquire);
}

}  // namespace

ThreadTeam::ThreadTeam(int threads) {
  for (int i = 1; i < threads; ++i) others_.emplace_back([this, i] { Serve(i); });
}

ThreadTeam::~ThreadTeam() {
  stopping_ = true;
  call_.fetch_add(1, std::memory_order_release);
  call_.notify_all();
  for (std::thread& other : others_) other.join();
}

void ThreadTeam::Run(int64_t count, Share share) {
  if (others_.empty() || count <= 1) {
    if (count > 0) share(0, count);
    return;
  }
  share_ = &share;
  count_ = count;
  done_.store(0, std::memory_order_relaxed);
  call_.fetch_add(1, std::memory_order_release);
  call_.notify_all();
  RunShare(0);
  const uint32_t all = static_cast<uint32_t>(others_.size());
  for (uint32_t done = done_.load(std::memory_order_acquire); done != all;) done = AwaitChange(done_, done);
}

void ThreadTeam::RunShare(int index) const {
  const int64_t begin = count_ * index / threads();
  const int64_t end = count_ * (index + 1) / threads();
  if (begin < end) (*share_)(begin, end);
}

void ThreadTeam::Serve(int index) {
  uint32_t seen = 0;
  while (true) {
    seen = AwaitChange(call_, seen);
    if (stopping_) return;
    RunShare(index);
    done_.fetch_add(1, std::memory_order_release);
    done_.notify_one();
  }
}

}  // namespace tandem::worker
