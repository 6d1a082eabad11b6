// Group commit, and what a failing disk does: those who asked are told, what is owed is tried again, in order.
#include "scheduler/store/store_thread.h"

#include <atomic>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/store/memory_store.h"
#include "scheduler/store/store_rows_for_test.h"

namespace tandem::scheduler::store {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

class StoreThreadTest : public testing::Test {
 protected:
  // Forwards to a store that outlives the thread, so that a test can look at it afterwards.
  struct Borrowed : Store {
    explicit Borrowed(MemoryStore* real) : real(real) {}
    absl::Status Commit(const Batch& batch) override { return real->Commit(batch); }
    absl::StatusOr<Snapshot> Load() override { return real->Load(); }
    MemoryStore* real;
  };

  StoreThreadTest() {
    StoreThread::Options options;
    options.most_waiting = 4;
    options.first_retry = absl::Milliseconds(1);
    options.most_retry = absl::Milliseconds(5);
    thread_ =
        std::make_unique<StoreThread>(std::make_unique<Borrowed>(&disk_), options, [this](const absl::Status& status) {
          absl::MutexLock lock(&mu_);
          troubles_.push_back(status.code());
        });
    disk_.set_fault([this] {
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(&open_));
      ++commits_;
      return fault_;
    });
  }

  void Disk(absl::Status fault) {
    absl::MutexLock lock(&mu_);
    fault_ = fault;
  }
  void Hold(bool hold) {
    absl::MutexLock lock(&mu_);
    open_ = !hold;
  }
  absl::Status SubmitAndWait(Batch batch) {
    absl::Notification done;
    absl::Status result;
    EXPECT_TRUE(thread_->Submit(std::move(batch), [&](const absl::Status& status) {
      result = status;
      done.Notify();
    }));
    done.WaitForNotification();
    return result;
  }
  static Batch OneDevice(uint32_t i, const std::string& reason) {
    Batch batch;
    batch.devices = {SampleDevice(i)};
    batch.devices[0].reason = reason;
    return batch;
  }
  static Batch OneOperation(uint64_t i) {
    Batch batch;
    batch.operations = {SampleOperation(i)};
    return batch;
  }

  MemoryStore disk_;
  absl::Mutex mu_;
  absl::Status fault_ ABSL_GUARDED_BY(mu_);
  bool open_ ABSL_GUARDED_BY(mu_) = true;
  int commits_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<absl::StatusCode> troubles_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<StoreThread> thread_;
};

TEST_F(StoreThreadTest, WhatWaitsGoesIntoOneCommit) {
  Hold(true);
  thread_->Start();
  std::atomic<int> done = 0;
  for (uint64_t i = 0; i < 4; ++i) {
    while (!thread_->Submit(OneOperation(i), [&](const absl::Status& status) { done += status.ok(); })) {
    }
    if (i == 0) {  // is on its way alone; the others gather behind it
      while (!thread_->Submit(OneOperation(10), [&](const absl::Status& status) { done += status.ok(); })) {
      }
    }
  }
  Hold(false);
  thread_->Stop();
  EXPECT_EQ(done, 5);
  absl::MutexLock lock(&mu_);
  EXPECT_LE(commits_, 3);
  EXPECT_THAT(disk_.Load()->operations, SizeIs(5));
}

TEST_F(StoreThreadTest, MoreThanMayWaitAreRefusedAtOnce) {
  for (uint64_t i = 0; i < 4; ++i) EXPECT_TRUE(thread_->Submit(OneOperation(i), [](const absl::Status&) {}));
  EXPECT_FALSE(thread_->Submit(OneOperation(5), [](const absl::Status&) { FAIL() << "refused, and called back"; }));
  thread_->Keep(OneDevice(1, "owed rows are never refused"));
  thread_->Start();
  thread_->Stop();
  EXPECT_THAT(disk_.Load()->operations, SizeIs(4));
  EXPECT_THAT(disk_.Load()->devices, SizeIs(1));
}

TEST_F(StoreThreadTest, AFullDiskRefusesWhoAsksAndOwesWhatIsKept) {
  Disk(absl::ResourceExhaustedError("full"));
  thread_->Start();
  thread_->Keep(OneDevice(1, "first"));
  EXPECT_TRUE(absl::IsResourceExhausted(SubmitAndWait(OneOperation(1))));
  thread_->Keep(OneDevice(1, "second"));
  thread_->Keep(OneDevice(2, "other"));
  EXPECT_TRUE(absl::IsResourceExhausted(SubmitAndWait(OneOperation(2))));
  EXPECT_EQ(*disk_.Load(), Snapshot{});
  Disk(absl::OkStatus());
  EXPECT_TRUE(SubmitAndWait(OneOperation(3)).ok());
  const Snapshot snapshot = *disk_.Load();
  ASSERT_THAT(snapshot.operations, SizeIs(1)) << "who was refused was not done later";
  EXPECT_EQ(snapshot.operations[0].id, SampleOperation(3).id);
  ASSERT_THAT(snapshot.devices, SizeIs(2));
  EXPECT_EQ(snapshot.devices[0].reason, "second");
  absl::MutexLock lock(&mu_);
  EXPECT_THAT(troubles_, ElementsAre(absl::StatusCode::kResourceExhausted, absl::StatusCode::kOk))
      << "each is told once";
}

// A disk that failed after it had taken the batch holds a row that its caller was told is not there.
TEST_F(StoreThreadTest, WhatWasRefusedIsTakenOutAgain) {
  ASSERT_TRUE(disk_.Commit(OneOperation(1)).ok());
  Disk(absl::UnavailableError("sync failed"));
  thread_->Start();
  EXPECT_FALSE(SubmitAndWait(OneOperation(1)).ok());
  Disk(absl::OkStatus());
  EXPECT_TRUE(SubmitAndWait(OneOperation(2)).ok());
  const auto operations = disk_.Load()->operations;
  ASSERT_THAT(operations, SizeIs(1));
  EXPECT_EQ(operations[0].id, SampleOperation(2).id);
}

TEST_F(StoreThreadTest, TheLaterWordAboutADeviceCounts) {
  Batch forget;
  forget.forgotten_devices = {SampleDevice(1).Name()};
  thread_->Keep(OneDevice(1, "here"));
  thread_->Keep(forget);
  thread_->Keep(OneDevice(2, "here"));
  thread_->Keep(OneDevice(2, "still here"));
  thread_->Start();
  thread_->Stop();
  const auto devices = disk_.Load()->devices;
  ASSERT_THAT(devices, SizeIs(1));
  EXPECT_EQ(devices[0].reason, "still here");
}

TEST_F(StoreThreadTest, StopTriesOnceMoreAndTellsEverybody) {
  Disk(absl::UnavailableError("gone"));
  absl::Status told;
  ASSERT_TRUE(thread_->Submit(OneOperation(1), [&](const absl::Status& status) { told = status; }));
  thread_->Start();
  thread_->Stop();
  EXPECT_TRUE(absl::IsUnavailable(told));
  EXPECT_FALSE(thread_->Submit(OneOperation(2), [](const absl::Status&) {}));
}

}  // namespace
}  // namespace tandem::scheduler::store
