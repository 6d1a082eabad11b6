#include "scheduler/answer_thread.h"

#include <utility>

namespace tandem::scheduler {

void AnswerThread::Start() {
  thread_ = std::thread([this] { Run(); });
}

void AnswerThread::Stop() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

bool AnswerThread::Post(std::function<void()> answer) {
  absl::MutexLock lock(&mu_);
  if (stopping_ || waiting_.size() >= kMostWaiting) return false;
  waiting_.push_back(std::move(answer));
  return true;
}

void AnswerThread::Run() {
  while (true) {
    std::function<void()> answer;
    {
      absl::MutexLock lock(&mu_);
      const auto awaited = [](AnswerThread* self)
                               ABSL_NO_THREAD_SAFETY_ANALYSIS { return !self->waiting_.empty() || self->stopping_; };
      mu_.Await(absl::Condition(+awaited, this));
      if (waiting_.empty()) return;
      answer = std::move(waiting_.front());
      waiting_.pop_front();
    }
    answer();
  }
}

}  // namespace tandem::scheduler
