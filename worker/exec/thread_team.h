// A rank's own threads: one call, one range shared out, everybody done when it returns.
//
// The calling thread takes a share too, so a team of one has no thread at all. Shares are contiguous and depend on the
// sizes only. Between calls the others spin briefly and then sleep. Belongs to the thread that made it.
#ifndef TANDEM_WORKER_EXEC_THREAD_TEAM_H_
#define TANDEM_WORKER_EXEC_THREAD_TEAM_H_

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace tandem::worker {

class ThreadTeam {
 public:
  using Share = absl::FunctionRef<void(int64_t begin, int64_t end)>;

  explicit ThreadTeam(int threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  // Calls `share` on parts that cover [0, count), each from another thread.
  void Run(int64_t count, Share share);

  int threads() const { return static_cast<int>(others_.size()) + 1; }

 private:
  void Serve(int index);
  void RunShare(int index) const;

  // Set by Run before `call_` is raised, read by the others after they saw it.
  const Share* share_ = nullptr;
  int64_t count_ = 0;
  bool stopping_ = false;

  std::atomic<uint32_t> call_{0};
  std::atomic<uint32_t> done_{0};
  std::vector<std::thread> others_;
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_THREAD_TEAM_H_
