// What is written is read back, by another process too; what is damaged, newer or foreign is refused by name.
#include "scheduler/store/sqlite_store.h"

#include <sqlite3.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/store/store_rows_for_test.h"

namespace tandem::scheduler::store {
namespace {

using testing::HasSubstr;

class SqliteStoreTest : public testing::Test {
 protected:
  SqliteStoreTest() {
    char pattern[] = "/tmp/tandem_store_XXXXXX";
    folder_ = mkdtemp(pattern);
    path_ = folder_ / "tandem.db";
  }
  ~SqliteStoreTest() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<SqliteStore> Open() {
    auto store = SqliteStore::Open(path_);
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *std::move(store) : nullptr;
  }
  Snapshot Reopened() {
    auto snapshot = Open()->Load();
    EXPECT_TRUE(snapshot.ok()) << snapshot.status();
    return snapshot.ok() ? *snapshot : Snapshot{};
  }
  std::string Refusal() {
    auto store = SqliteStore::Open(path_);
    if (!store.ok()) return std::string(store.status().message());
    auto snapshot = (*store)->Load();
    return snapshot.ok() ? "" : std::string(snapshot.status().message());
  }
  // As somebody with another program would.
  void Tamper(const std::string& sql) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(path_.c_str(), &db), SQLITE_OK);
    char* error = nullptr;
    EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, &error), SQLITE_OK) << error;
    sqlite3_close(db);
  }

  std::filesystem::path folder_, path_;
};

TEST_F(SqliteStoreTest, AFreshFileHoldsNothing) {
  EXPECT_EQ(Reopened(), Snapshot{});
  struct stat facts;
  ASSERT_EQ(stat(path_.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600u);
}

TEST_F(SqliteStoreTest, EveryFieldComesBack) {
  Batch batch;
  batch.leader_epoch = 7;
  batch.devices = {SampleDevice(1), SampleDevice(2)};
  batch.operations = {SampleOperation(1), SampleOperation(2)};
  batch.deployments = {SampleDeployment(1), SampleDeployment(2)};
  ASSERT_TRUE(Open()->Commit(batch).ok());
  EXPECT_EQ(Reopened(), (Snapshot{7, batch.devices, batch.operations, batch.deployments}));
  Batch forget;
  forget.forgotten_deployments = {SampleDeployment(1).name};
  ASSERT_TRUE(Open()->Commit(forget).ok());
  EXPECT_EQ(Reopened().deployments, std::vector<Deployment>{SampleDeployment(2)});
}

TEST_F(SqliteStoreTest, AFileOfTheFirstSchemaIsBroughtUpToDate) {
  Batch batch;
  batch.devices = {SampleDevice(1)};
  ASSERT_TRUE(Open()->Commit(batch).ok());
  Tamper("DROP TABLE deployments; PRAGMA user_version=1");
  EXPECT_EQ(Reopened().devices, batch.devices);
  Batch more;
  more.deployments = {SampleDeployment(1)};
  ASSERT_TRUE(Open()->Commit(more).ok());
  EXPECT_EQ(Reopened().deployments, more.deployments);
}

TEST_F(SqliteStoreTest, ALaterRowReplacesAnEarlierOneAndRemovedOnesAreGone) {
  const auto store = Open();
  Batch batch;
  batch.devices = {SampleDevice(1), SampleDevice(2)};
  batch.operations = {SampleOperation(1), SampleOperation(2)};
  ASSERT_TRUE(store->Commit(batch).ok());
  Batch change;
  change.devices = {SampleDevice(1)};
  change.devices[0].reason = "another";
  change.forgotten_devices = {SampleDevice(2).Name(), "nodes/never/devices/0"};
  change.withdrawn = {SampleOperation(2).id, 12345};
  ASSERT_TRUE(store->Commit(change).ok());
  EXPECT_EQ(*store->Load(), (Snapshot{0, change.devices, {batch.operations[0]}}));
}

TEST_F(SqliteStoreTest, TheOldestEndedOperationsGoFirst) {
  const auto store = Open();
  Batch batch;
  for (uint64_t i = 0; i < kMostEnded + 10; ++i) {
    batch.operations.push_back(SampleOperation(i));
    batch.operations.back().state = i == 3 ? Operation::State::kRunning : Operation::State::kDone;
  }
  ASSERT_TRUE(store->Commit(batch).ok());
  const auto kept = store->Load()->operations;
  ASSERT_EQ(kept.size(), kMostEnded + 1u);
  EXPECT_EQ(kept[0].id, SampleOperation(3).id) << "what runs is never dropped";
  EXPECT_EQ(kept[1].id, SampleOperation(10).id);
}

TEST_F(SqliteStoreTest, ANewerSchemaIsRefused) {
  Open();
  Tamper("PRAGMA user_version=99");
  EXPECT_THAT(Refusal(), HasSubstr("was written by a newer scheduler (schema 99; this one knows up to 2)"));
}

TEST_F(SqliteStoreTest, AnotherProgramsDatabaseIsRefused) {
  Tamper("CREATE TABLE songs(title TEXT)");
  EXPECT_THAT(Refusal(), HasSubstr("is a database of another program"));
}

TEST_F(SqliteStoreTest, NoDatabaseAtAllIsRefused) {
  std::ofstream(path_) << std::string(5000, 'x');
  EXPECT_THAT(Refusal(), HasSubstr("is damaged: file is not a database; stop the scheduler, restore"));
}

TEST_F(SqliteStoreTest, ARowThatSomebodyChangedIsRefused) {
  Batch batch;
  batch.devices = {SampleDevice(1), SampleDevice(2)};
  batch.operations = {SampleOperation(1)};
  ASSERT_TRUE(Open()->Commit(batch).ok());
  Tamper("UPDATE devices SET cordoned=1-cordoned WHERE idx=1");
  EXPECT_THAT(Refusal(), HasSubstr("the row of a device is not what was written"));
  Tamper("UPDATE devices SET cordoned=1-cordoned WHERE idx=1");
  EXPECT_EQ(Refusal(), "");
  Tamper("DELETE FROM devices WHERE idx=1");
  EXPECT_THAT(Refusal(), HasSubstr("the set of rows is not what was written"));
}

TEST_F(SqliteStoreTest, AFolderThatIsNotThereIsRefused) {
  path_ = folder_ / "nowhere" / "tandem.db";
  EXPECT_THAT(Refusal(), HasSubstr("cannot open"));
}

}  // namespace
}  // namespace tandem::scheduler::store
