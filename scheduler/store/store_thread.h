// The one thread that owns the Store. Nobody waits for the disk but it.
//
// Two doors. Submit is for what must be on disk before it may be done: it is called back, on the store's thread, when
// its batch is or cannot be; refused at once when `most_waiting` wait. Keep is for what the core says has changed: it
// is owed, so it is never refused, only overtaken by a newer row of the same device or operation, and after a failure
// it is tried again until it succeeds.
//
// All that waits goes into one commit, in the order of coming, rows that failed before first: a row never overwrites a
// newer one, and the disk has always seen a prefix of what was handed in.
#ifndef TANDEM_SCHEDULER_STORE_STORE_THREAD_H_
#define TANDEM_SCHEDULER_STORE_STORE_THREAD_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/steady_wait.h"
#include "scheduler/store/store.h"

namespace tandem::scheduler::store {

class StoreThread {
 public:
  struct Options {
    size_t most_waiting = 1024;  // of Submit: more operators than this at once are a program gone wild
    absl::Duration first_retry = absl::Milliseconds(100);
    absl::Duration most_retry = absl::Seconds(10);
  };
  using Done = std::function<void(const absl::Status&)>;
  // Told on the store's thread when commits begin to fail, with why, and with OK when one succeeds again.
  using OnTrouble = std::function<void(const absl::Status&)>;

  StoreThread(std::unique_ptr<Store> store, Options options, OnTrouble on_trouble);
  ~StoreThread();

  void Start();
  // Tries what waits once more, calls everybody back, and ends the thread. Later batches are refused.
  void Stop();

  // False: too many wait, or stopped; `done` is not called. After a failure its operations are taken out again, should
  // the disk have them all the same; who submits a deployment keeps the row before it once more.
  bool Submit(Batch batch, Done done);
  void Keep(Batch batch);

 private:
  struct Waiting {
    Batch batch;
    Done done;  // null: from Keep
  };
  // Rows that a failed commit left behind, by what they are about; null: it is to be removed.
  struct Dirty {
    std::map<std::string, std::unique_ptr<Device>> devices;
    std::map<uint64_t, std::unique_ptr<Operation>> operations;
    std::map<std::string, std::unique_ptr<Deployment>> deployments;
    bool empty() const { return devices.empty() && operations.empty() && deployments.empty(); }
    void Add(const Batch& batch);
    Batch AsBatch() const;
  };

  void Run();
  // One commit of everything in `items`, behind what is dirty. Calls back.
  void CommitAll(std::vector<Waiting> items);

  const std::unique_ptr<Store> store_;
  const Options options_;
  const OnTrouble on_trouble_;
  std::thread thread_;

  // Of the thread.
  Dirty dirty_;
  bool in_trouble_ = false;
  absl::Duration retry_ = absl::ZeroDuration();

  absl::Mutex mu_;
  SteadyCondVar arrived_;
  std::vector<Waiting> waiting_ ABSL_GUARDED_BY(mu_);
  size_t submitted_ ABSL_GUARDED_BY(mu_) = 0;  // of waiting_, those with a callback
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace tandem::scheduler::store

#endif  // TANDEM_SCHEDULER_STORE_STORE_THREAD_H_
