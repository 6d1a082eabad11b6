// Threads for work that grows with a prompt: tokenizing, detokenizing, hashing. Never on a gRPC or core thread.
//
// The queue is bounded by count and by bytes; what does not fit is refused at once. Jobs run in the order of arrival,
// as many at a time as there are threads.
#ifndef TANDEM_SCHEDULER_TOKENIZER_POOL_H_
#define TANDEM_SCHEDULER_TOKENIZER_POOL_H_

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace tandem::scheduler {

class TokenizerPool {
 public:
  struct Limits {
    int threads = 2;
    size_t jobs = 4096;
    size_t bytes = 128 << 20;  // eight prompts of the largest size that is received
  };
  explicit TokenizerPool(const Limits& limits);
  ~TokenizerPool();

  // False when full or stopped; the job will not run. `bytes` is the size of what it works on; more than the limit is
  // never taken, since what is received is smaller. The job must not throw.
  bool Submit(size_t bytes, std::function<void()> job);
  // Works off what waits, then ends the threads.
  void Stop();

 private:
  struct Job {
    size_t bytes;
    std::function<void()> run;
  };
  void Run();

  const Limits limits_;
  absl::Mutex mu_;
  absl::CondVar arrived_;
  std::deque<Job> jobs_ ABSL_GUARDED_BY(mu_);
  size_t bytes_ ABSL_GUARDED_BY(mu_) = 0;  // of jobs that wait or run
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_TOKENIZER_POOL_H_
