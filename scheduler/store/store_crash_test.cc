// Killed after any byte, unplugged, full, failing, rotten: a batch that was acknowledged is there, one that was not is
// there as a whole or not at all, and a file that cannot be trusted is refused in words.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/store/faulty_disk_for_test.h"
#include "scheduler/store/sqlite_store.h"
#include "scheduler/store/store_rows_for_test.h"

namespace tandem::scheduler::store {
namespace {

constexpr char kPath[] = "tandem.db";

// A life of a store: rows come, change and go.
Batch BatchNumber(int i) {
  Batch batch;
  const auto n = static_cast<uint32_t>(i);
  batch.leader_epoch = n + 1;
  batch.devices = {SampleDevice(n % 4)};
  batch.devices[0].reason = absl::StrCat("batch ", i);
  batch.operations = {SampleOperation(n)};
  if (i % 3 == 2) batch.forgotten_devices = {SampleDevice((n + 1) % 4).Name()};
  if (i % 4 == 3) batch.withdrawn = {SampleOperation(n - 2).id};
  return batch;
}

absl::StatusOr<Snapshot> LoadFrom(FaultyDisk::Files files) {
  FaultyDisk disk(std::move(files));
  auto store = SqliteStore::Open(kPath, disk.vfs());
  if (!store.ok()) return store.status();
  return (*store)->Load();
}

class StoreCrashTest : public testing::Test {
 protected:
  static constexpr int kBatches = 10;

  StoreCrashTest() {
    auto store = SqliteStore::Open(kPath, disk_.vfs());
    EXPECT_TRUE(store.ok()) << store.status();
    snapshots_.push_back(Snapshot{});
    acknowledged_.push_back(0);
    for (int i = 0; i < kBatches; ++i) {
      EXPECT_TRUE((*store)->Commit(BatchNumber(i)).ok());
      acknowledged_.push_back(disk_.steps().size());
      snapshots_.push_back(*(*store)->Load());
    }
    files_ = disk_.files();
    steps_ = disk_.steps();  // before closing, which tidies up
  }

  // How many batches had been acknowledged after so many steps.
  size_t AcknowledgedAfter(size_t steps) const {
    size_t count = 0;
    while (count + 1 < acknowledged_.size() && acknowledged_[count + 1] <= steps) ++count;
    return count;
  }
  // True if it is one of the states that the store was in, from `least` batches on.
  bool IsPrefix(const Snapshot& snapshot, size_t least = 0) const {
    return std::find(snapshots_.begin() + static_cast<ptrdiff_t>(least), snapshots_.end(), snapshot) !=
           snapshots_.end();
  }

  FaultyDisk disk_;
  std::vector<FaultyDisk::Step> steps_;
  FaultyDisk::Files files_;
  std::vector<Snapshot> snapshots_;   // after so many batches
  std::vector<size_t> acknowledged_;  // steps of the disk at that moment
};

// TANDEM_EVERY_BYTE=1 leaves none out; else the middle of a write stands for its middle.
TEST_F(StoreCrashTest, KilledAfterAnyByte) {
  const bool every = std::getenv("TANDEM_EVERY_BYTE") != nullptr;
  int positions = 0;
  for (size_t step = 0; step <= steps_.size(); ++step) {
    const size_t size = step < steps_.size() ? steps_[step].bytes.size() : 0;
    for (size_t byte = 0; byte == 0 || byte < size; byte += every || byte < 40 || byte + 40 > size ? 1 : 97) {
      const auto loaded = LoadFrom(FaultyDisk::After(steps_, step, byte));
      ASSERT_TRUE(loaded.ok()) << loaded.status() << " after " << step << " steps and " << byte << " bytes";
      const size_t acknowledged = AcknowledgedAfter(step);
      ++positions;
      ASSERT_TRUE(*loaded == snapshots_[acknowledged] ||
                  (acknowledged + 1 < snapshots_.size() && *loaded == snapshots_[acknowledged + 1]))
          << "after " << step << " steps and " << byte << " bytes of the next, with " << acknowledged
          << " batches acknowledged, leader epoch " << loaded->leader_epoch;
    }
  }
  EXPECT_GT(positions, 1000);
}

TEST_F(StoreCrashTest, UnpluggedAfterAnyStep) {
  std::mt19937 random(1);
  for (size_t step = 0; step <= steps_.size(); ++step) {
    for (int round = 0; round < 4; ++round) {
      const auto came = [&] { return round > 0 && random() % 4 < static_cast<unsigned>(round); };
      const auto loaded = LoadFrom(FaultyDisk::AfterPowerLoss(steps_, step, came));
      ASSERT_TRUE(loaded.ok()) << loaded.status() << " after " << step << " steps";
      ASSERT_TRUE(IsPrefix(*loaded, AcknowledgedAfter(step))) << "after " << step << " steps";
    }
  }
}

TEST_F(StoreCrashTest, AShortenedLogIsAPrefix) {
  const std::string whole = files_[absl::StrCat(kPath, "-wal")];
  ASSERT_GT(whole.size(), 10000u);
  for (size_t size = 0; size <= whole.size(); size += size % 4120 < 64 ? 1 : 89) {
    FaultyDisk::Files files = files_;
    files[absl::StrCat(kPath, "-wal")].resize(size);
    const auto loaded = LoadFrom(files);
    ASSERT_TRUE(loaded.ok()) << loaded.status() << " with " << size << " bytes of the log";
    ASSERT_TRUE(IsPrefix(*loaded)) << "with " << size << " bytes of the log";
  }
}

// In the log, a flipped bit ends it: a prefix. In the file, it is found and named.
TEST_F(StoreCrashTest, FlippedBitsAreFound) {
  FaultyDisk::Files tidied;
  {
    FaultyDisk disk(files_);
    ASSERT_TRUE(SqliteStore::Open(kPath, disk.vfs()).ok());  // closing folds the log into the file
    tidied = disk.files();
  }
  std::mt19937 random(2);
  int refused = 0, prefixes = 0;
  for (int round = 0; round < 4000; ++round) {
    FaultyDisk::Files files = round % 2 == 0 ? files_ : tidied;
    std::string& bytes = files[round % 2 == 0 ? absl::StrCat(kPath, "-wal") : kPath];
    for (unsigned flips = 1 + random() % 3; flips > 0; --flips) {
      bytes[random() % bytes.size()] ^= static_cast<char>(1 << random() % 8);
    }
    const auto loaded = LoadFrom(files);
    if (!loaded.ok()) {
      ASSERT_THAT(std::string(loaded.status().message()), testing::HasSubstr(kPath));
      ++refused;
    } else {
      ASSERT_TRUE(IsPrefix(*loaded)) << "round " << round;
      ++prefixes;
    }
  }
  EXPECT_GT(refused, 100);
  EXPECT_GT(prefixes, 100);
}

// The n-th step of the disk fails, and all after it, until somebody makes room.
TEST_F(StoreCrashTest, AFailingDiskChangesNothingAndIsTriedAgain) {
  using Kind = FaultyDisk::Kind;
  for (const auto& [kind, code] : std::vector<std::pair<Kind, int>>{
           {Kind::kWrite, SQLITE_FULL}, {Kind::kWrite, SQLITE_IOERR_WRITE}, {Kind::kSync, SQLITE_IOERR_FSYNC}}) {
    for (int good = 0; good < 8; ++good) {
      FaultyDisk disk;
      Snapshot before;
      {
        auto store = *SqliteStore::Open(kPath, disk.vfs());
        ASSERT_TRUE(store->Commit(BatchNumber(0)).ok());
        before = *store->Load();
        int left = good;
        disk.set_fault([&](Kind asked) { return asked == kind && left-- <= 0 ? code : SQLITE_OK; });
        absl::Status status;
        int taken = 0;
        for (int i = 1; i < 10 && status.ok(); ++i) {
          status = store->Commit(BatchNumber(i));
          if (!status.ok()) break;
          before = *store->Load();
          taken = i;
        }
        ASSERT_FALSE(status.ok());
        EXPECT_EQ(absl::IsResourceExhausted(status), code == SQLITE_FULL) << status;
        EXPECT_THAT(std::string(status.message()), testing::HasSubstr("cannot write tandem.db"));
        EXPECT_EQ(*store->Load(), before) << "a batch that failed is not seen";
        disk.set_fault(nullptr);
        ASSERT_TRUE(store->Commit(BatchNumber(taken + 1)).ok()) << "after room was made";
        before = *store->Load();
      }
      const auto loaded = LoadFrom(disk.files());
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      EXPECT_EQ(*loaded, before);
    }
  }
}

// A real process on a real disk.
TEST(StoreKillTest, KilledAtAnyMomentItKeepsWhatItAcknowledged) {
  char pattern[] = "/tmp/tandem_store_XXXXXX";
  const std::filesystem::path folder = mkdtemp(pattern);
  std::mt19937 random(3);
  for (int round = 0; round < 15; ++round) {
    const std::string path = folder / absl::StrCat("tandem-", round, ".db");
    int pipes[2];
    ASSERT_EQ(pipe(pipes), 0);
    const pid_t child = fork();
    if (child == 0) {
      auto store = SqliteStore::Open(path);
      for (int i = 0; store.ok() && (*store)->Commit(BatchNumber(i)).ok(); ++i) {
        if (write(pipes[1], &i, sizeof(i)) != sizeof(i)) break;
      }
      _exit(1);
    }
    close(pipes[1]);
    int acknowledged = -1;
    for (int wanted = static_cast<int>(random() % 6); acknowledged < wanted;) {
      ASSERT_EQ(read(pipes[0], &acknowledged, sizeof(acknowledged)), static_cast<ssize_t>(sizeof(acknowledged)));
    }
    usleep(static_cast<useconds_t>(random() % 3000));  // a moment within a commit
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    while (read(pipes[0], &acknowledged, sizeof(acknowledged)) > 0) {
    }
    close(pipes[0]);
    auto store = SqliteStore::Open(path);
    ASSERT_TRUE(store.ok()) << store.status();
    const auto snapshot = (*store)->Load();
    ASSERT_TRUE(snapshot.ok()) << snapshot.status();
    const auto there = static_cast<int>(snapshot->leader_epoch) - 1;  // the number of the last batch
    EXPECT_TRUE(there == acknowledged || there == acknowledged + 1) << there << " against " << acknowledged;
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace tandem::scheduler::store
