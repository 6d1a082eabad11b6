// The Store on disk: one SQLite file in WAL mode, every commit synced.
//
// Each row carries a checksum, and the file the sum of all of them, written in the same transaction: a bit that flipped
// in a page that SQLite itself finds in order, or a row that went missing, is found at the start. What is damaged is
// refused with what to do, never guessed at.
//
// The file belongs to one process: the caller holds the lock on its folder (leader_epoch.h).
#ifndef TANDEM_SCHEDULER_STORE_SQLITE_STORE_H_
#define TANDEM_SCHEDULER_STORE_SQLITE_STORE_H_

#include <memory>
#include <string>

#include "scheduler/store/store.h"

struct sqlite3;

namespace tandem::scheduler::store {

class SqliteStore final : public Store {
 public:
  // Makes the file where there is none (mode 0600). DATA_LOSS: it is damaged; FAILED_PRECONDITION: it is of a newer
  // version, or no such file; both name the file and say what to do. `vfs`: SQLite's name of another file system, for
  // tests of failing disks; null is the usual one.
  static absl::StatusOr<std::unique_ptr<SqliteStore>> Open(const std::string& path, const char* vfs = nullptr);
  ~SqliteStore() override;

  absl::Status Commit(const Batch& batch) override;
  // DATA_LOSS as above.
  absl::StatusOr<Snapshot> Load() override;

 private:
  SqliteStore(std::string path, sqlite3* db) : path_(std::move(path)), db_(db) {}
  absl::Status Prepare();
  absl::Status Apply(const Batch& batch);

  const std::string path_;
  sqlite3* const db_;
};

}  // namespace tandem::scheduler::store

#endif  // TANDEM_SCHEDULER_STORE_SQLITE_STORE_H_
