// The thread that makes the answers to those that only look: lists, rows, the numbers of GetMetrics.
//
// They are made neither on the core's thread, which decides meanwhile, nor on one of gRPC's, which has other calls to
// serve: an answer waits for several turns of the core. One after another, so that however many ask at once, the core
// has one of their pieces to copy between two of its batches.
#ifndef TANDEM_SCHEDULER_ANSWER_THREAD_H_
#define TANDEM_SCHEDULER_ANSWER_THREAD_H_

#include <deque>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace tandem::scheduler {

class AnswerThread {
 public:
  ~AnswerThread() { Stop(); }

  void Start();
  // Works off what waits, then ends the thread. Whoever owes an answer gives it, be it that nobody can look any more.
  void Stop();

  // False: too many wait, or stopped; `answer` is not called.
  bool Post(std::function<void()> answer);

 private:
  // More than operators ask at once; a program gone wild is told to come again.
  static constexpr size_t kMostWaiting = 256;

  void Run();

  absl::Mutex mu_;
  std::deque<std::function<void()>> waiting_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_ANSWER_THREAD_H_
