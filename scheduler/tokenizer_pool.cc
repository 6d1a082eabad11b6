#include "scheduler/tokenizer_pool.h"

#include <utility>

namespace tandem::scheduler {

TokenizerPool::TokenizerPool(const Limits& limits) : limits_(limits) {
  for (int i = 0; i < limits_.threads; ++i) threads_.emplace_back([this] { Run(); });
}

TokenizerPool::~TokenizerPool() { Stop(); }

bool TokenizerPool::Submit(size_t bytes, std::function<void()> job) {
  absl::MutexLock lock(&mu_);
  if (stopping_ || jobs_.size() >= limits_.jobs) return false;
  if (bytes > limits_.bytes || bytes_ > limits_.bytes - bytes) return false;
  bytes_ += bytes;
  jobs_.push_back({bytes, std::move(job)});
  arrived_.Signal();
  return true;
}

void TokenizerPool::Stop() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    arrived_.SignalAll();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void TokenizerPool::Run() {
  size_t done = 0;
  while (true) {
    Job job;
    {
      absl::MutexLock lock(&mu_);
      bytes_ -= done;
      while (jobs_.empty() && !stopping_) arrived_.Wait(&mu_);
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job.run();
    done = job.bytes;
  }
}

}  // namespace tandem::scheduler
