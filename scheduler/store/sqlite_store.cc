#include "scheduler/store/sqlite_store.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/fnv1a.h"
#include "scheduler/store/sqlite_statement.h"

namespace tandem::scheduler::store {
namespace {

// Raised when the tables change; an older program refuses a newer file, a newer one brings an older file up to date.
constexpr int kSchema = 2;
constexpr int kApplication = 0x54414e44;  // "TAND": tells our file from any other database

constexpr char kTables[] = R"(
CREATE TABLE devices(name TEXT PRIMARY KEY, node TEXT, idx INTEGER, kind TEXT, model TEXT, uuid TEXT,
  memory_budget INTEGER, cordoned INTEGER, drained INTEGER, quarantined INTEGER, reason TEXT, since_us INTEGER,
  seen_us INTEGER, checksum INTEGER) WITHOUT ROWID;
CREATE TABLE operations(id INTEGER PRIMARY KEY, verb TEXT, key TEXT, request TEXT, devices TEXT, grp INTEGER,
  reason TEXT, on_deadline TEXT, force INTEGER, deadline_us INTEGER, requests_at_start INTEGER, state INTEGER,
  refused TEXT, message TEXT, asked_us INTEGER, checksum INTEGER);
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID;
INSERT INTO meta VALUES('leader_epoch', 0), ('digest', 0);
)";
// Since schema 2.
constexpr char kDeployments[] = R"(
CREATE TABLE deployments(name TEXT PRIMARY KEY, spec TEXT, base TEXT, reason TEXT, since_us INTEGER,
  checksum INTEGER) WITHOUT ROWID;
)";

constexpr char kRecover[] =
    "; stop the scheduler, restore the file from a backup, or move it and its -wal away: then cordons, drains and what "
    "was deployed at run time are forgotten, and nothing else";

// Each column of a row once, in the order of the tables: one list serves writing, reading and the checksum.
template <typename Row, typename Visitor>
requires std::is_same_v<std::remove_const_t<Row>, Device>
void Columns(Row& d, Visitor&& v) {
  v(d.node), v(d.index), v(d.kind), v(d.model), v(d.uuid), v(d.memory_budget), v(d.cordoned), v(d.drained);
  v(d.quarantined), v(d.reason), v(d.since_us), v(d.seen_us);
}
template <typename Row, typename Visitor>
requires std::is_same_v<std::remove_const_t<Row>, Operation>
void Columns(Row& o, Visitor&& v) {
  v(o.verb), v(o.key), v(o.request), v(o.devices), v(o.group), v(o.reason), v(o.on_deadline), v(o.force);
  v(o.deadline_us), v(o.requests_at_start), v(o.state), v(o.refused), v(o.message), v(o.asked_us);
}
template <typename Row, typename Visitor>
requires std::is_same_v<std::remove_const_t<Row>, Deployment>
void Columns(Row& d, Visitor&& v) { v(d.spec), v(d.base), v(d.reason), v(d.since_us); }

// FNV-1a over all columns, each text with its length.
class Checksum {
 public:
  void operator()(const std::string& text) {
    (*this)(static_cast<uint64_t>(text.size()));
    hash_.Add(text);
  }
  void operator()(const std::vector<std::string>& texts) {
    for (const std::string& text : texts) (*this)(text);
  }
  template <typename T>
  requires std::is_integral_v<T> || std::is_enum_v<T>
  void operator()(T number) {
    const auto bits = static_cast<uint64_t>(number);
    for (int shift = 0; shift < 64; shift += 8) hash_.Add(static_cast<uint8_t>(bits >> shift));
  }
  // SQLite's integers are signed.
  int64_t value() const { return static_cast<int64_t>(hash_.value()); }

 private:
  Fnv1a hash_;
};

int64_t ChecksumOf(const Device& device) {
  Checksum sum;
  Columns(device, sum);
  return sum.value();
}
int64_t ChecksumOf(const Operation& operation) {
  Checksum sum;
  sum(operation.id);
  Columns(operation, sum);
  return sum.value();
}
int64_t ChecksumOf(const Deployment& deployment) {
  Checksum sum;
  sum(deployment.name);
  Columns(deployment, sum);
  return sum.value();
}
int64_t ChecksumOf(uint64_t leader_epoch) {
  Checksum sum;
  sum(leader_epoch);
  return sum.value();
}

// Device names hold no line feed: the worker's service refuses such a node.
struct Binder {
  Statement& statement;
  std::string joined;
  void operator()(const std::string& text) { statement.Bind(text); }
  void operator()(const std::vector<std::string>& texts) { statement.Bind(joined = absl::StrJoin(texts, "\n")); }
  template <typename T>
  requires std::is_integral_v<T> || std::is_enum_v<T>
  void operator()(T number) { statement.Bind(static_cast<int64_t>(number)); }
};
struct Reader {
  Statement& statement;
  void operator()(std::string& text) { statement.Read(text); }
  void operator()(std::vector<std::string>& texts) {
    std::string joined;
    statement.Read(joined);
    texts = absl::StrSplit(joined, '\n', absl::SkipEmpty());
  }
  template <typename T>
  requires std::is_integral_v<T> || std::is_enum_v<T>
  void operator()(T& number) {
    int64_t wide = 0;
    statement.Read(wide);
    number = static_cast<T>(wide);
  }
};

// What the code of a failed call means to whoever runs the scheduler.
absl::Status Explain(int code, const std::string& path, const char* doing) {
  if (code == SQLITE_OK) return absl::OkStatus();
  const std::string what = absl::StrCat("cannot ", doing, " ", path, ": ", sqlite3_errstr(code));
  switch (code & 0xff) {
    case SQLITE_FULL:
      return absl::ResourceExhaustedError(absl::StrCat(what, "; make room on its disk"));
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
      return absl::DataLossError(absl::StrCat(path, " is damaged: ", sqlite3_errstr(code), kRecover));
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return absl::FailedPreconditionError(absl::StrCat(what, "; it must be a file that the scheduler may write"));
    default:
      return absl::UnavailableError(what);
  }
}

int Execute(sqlite3* db, const char* sql) { return sqlite3_exec(db, sql, nullptr, nullptr, nullptr); }

int64_t Number(sqlite3* db, const char* sql, int* code) {
  Statement statement(db, sql);
  int64_t number = 0;
  if (statement.Step()) statement.Read(number);
  if (*code == SQLITE_OK) *code = statement.code();
  return number;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SqliteStore>> SqliteStore::Open(const std::string& path, const char* vfs) {
  if (vfs == nullptr) {  // made here, so that nobody else may read it, and its name is on disk
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
    close(fd);
    const std::string folder = std::filesystem::path(path).parent_path();
    const int folder_fd = open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool synced = folder_fd >= 0 && fsync(folder_fd) == 0;
    if (folder_fd >= 0) close(folder_fd);
    if (!synced) return absl::UnavailableError(absl::StrCat("cannot sync the folder of ", path));
  }
  sqlite3* db = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, vfs);
  std::unique_ptr<SqliteStore> store(new SqliteStore(path, db));
  if (code != SQLITE_OK) return Explain(code, path, "open");
  if (absl::Status status = store->Prepare(); !status.ok()) return status;
  return store;
}

SqliteStore::~SqliteStore() { sqlite3_close(db_); }

absl::Status SqliteStore::Prepare() {
  sqlite3_extended_result_codes(db_, 1);
  // Exclusive, so that there is no shared-memory file; the folder is ours anyway.
  int code = Execute(db_, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON");
  const int64_t version = Number(db_, "PRAGMA user_version", &code);
  const int64_t application = Number(db_, "PRAGMA application_id", &code);
  const int64_t tables = Number(db_, "SELECT count(*) FROM sqlite_schema", &code);
  if (code != SQLITE_OK) return Explain(code, path_, "read");
  if (tables > 0 && application != kApplication) {
    return absl::FailedPreconditionError(absl::StrCat(
        path_, " is a database of another program; move it away, or give this scheduler another --state-dir"));
  }
  if (version > kSchema) {
    return absl::FailedPreconditionError(absl::StrCat(path_, " was written by a newer scheduler (schema ", version,
                                                      "; this one knows up to ", kSchema,
                                                      "); run that one, or give this one another --state-dir"));
  }
  code = Execute(db_, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL");
  if (code != SQLITE_OK) return Explain(code, path_, "open");
  if (tables == 0) {
    const std::string create = absl::StrCat("BEGIN IMMEDIATE; PRAGMA application_id=", kApplication,
                                            "; PRAGMA user_version=", kSchema, "; ", kTables, kDeployments, " COMMIT");
    code = Execute(db_, create.c_str());
  } else if (version < kSchema) {
    const std::string update =
        absl::StrCat("BEGIN IMMEDIATE; PRAGMA user_version=", kSchema, "; ", kDeployments, " COMMIT");
    code = Execute(db_, update.c_str());
  }
  if (code != SQLITE_OK) {
    Execute(db_, "ROLLBACK");
    return Explain(code, path_, "write");
  }
  Statement check(db_, "PRAGMA integrity_check(1)");
  std::string verdict;
  if (check.Step()) check.Read(verdict);
  if (check.code() != SQLITE_OK) return Explain(check.code(), path_, "check");
  if (verdict != "ok") return absl::DataLossError(absl::StrCat(path_, " is damaged: ", verdict, kRecover));
  return absl::OkStatus();
}

// ---- writing ------------------------------------------------------------------------------------------------------

absl::Status SqliteStore::Commit(const Batch& batch) {
  int code = Execute(db_, "BEGIN IMMEDIATE");
  if (code != SQLITE_OK) return Explain(code, path_, "write");
  absl::Status status = Apply(batch);
  if (status.ok()) status = Explain(Execute(db_, "COMMIT"), path_, "write");
  // Some failures have rolled back by themselves; then this one says so and changes nothing.
  if (!status.ok()) Execute(db_, "ROLLBACK");
  return status;
}

absl::Status SqliteStore::Apply(const Batch& batch) {
  // The digest is the exclusive or of the checksums of all rows: what goes is taken out as what comes is put in.
  int code = SQLITE_OK;
  int64_t digest = Number(db_, "SELECT value FROM meta WHERE name='digest'", &code);
  Statement old_device(db_, "SELECT checksum FROM devices WHERE name=?");
  Statement no_device(db_, "DELETE FROM devices WHERE name=?");
  Statement new_device(db_, "INSERT OR REPLACE INTO devices VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?)");
  Statement old_operation(db_, "SELECT checksum FROM operations WHERE id=?");
  Statement no_operation(db_, "DELETE FROM operations WHERE id=?");
  Statement new_operation(db_, "INSERT OR REPLACE INTO operations VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)");
  Statement old_deployment(db_, "SELECT checksum FROM deployments WHERE name=?");
  Statement no_deployment(db_, "DELETE FROM deployments WHERE name=?");
  Statement new_deployment(db_, "INSERT OR REPLACE INTO deployments VALUES(?,?,?,?,?,?)");
  const auto keep = [&code](int one) {
    if (code == SQLITE_OK) code = one;
  };
  const auto take_out = [&](Statement& old, const auto& key) {
    int64_t checksum = 0;
    old.Bind(key);
    if (old.Step()) old.Read(checksum);
    keep(old.Run());
    digest ^= checksum;
  };
  const auto remove = [&](Statement& old, Statement& no, const auto& key) {
    take_out(old, key);
    no.Bind(key);
    keep(no.Run());
  };
  const auto put = [&](Statement& old, Statement& fresh, const auto& key, const auto& row) {
    take_out(old, key);
    fresh.Bind(key);
    Binder bind{fresh, {}};
    Columns(row, bind);
    fresh.Bind(ChecksumOf(row));
    digest ^= ChecksumOf(row);
    keep(fresh.Run());
  };
  for (const std::string& name : batch.forgotten_devices) remove(old_device, no_device, name);
  for (const Device& device : batch.devices) {
    const std::string name = device.Name();
    put(old_device, new_device, name, device);
  }
  for (const std::string& name : batch.forgotten_deployments) remove(old_deployment, no_deployment, name);
  for (const Deployment& one : batch.deployments) put(old_deployment, new_deployment, one.name, one);
  for (uint64_t id : batch.withdrawn) remove(old_operation, no_operation, id);
  for (const Operation& operation : batch.operations) put(old_operation, new_operation, operation.id, operation);
  if (!batch.operations.empty()) {
    std::vector<uint64_t> surplus;
    Statement oldest(db_, "SELECT id FROM operations WHERE state>=? ORDER BY id DESC LIMIT -1 OFFSET ?");
    oldest.Bind(static_cast<int64_t>(Operation::State::kDone));
    oldest.Bind(kMostEnded);
    while (oldest.Step()) oldest.Read(surplus.emplace_back());
    keep(oldest.code());
    for (uint64_t id : surplus) remove(old_operation, no_operation, id);
  }
  Statement meta(db_, "UPDATE meta SET value=? WHERE name=?");
  const auto set = [&](const std::string& name, int64_t value) {
    meta.Bind(value);
    meta.Bind(name);
    keep(meta.Run());
  };
  if (batch.leader_epoch.has_value()) {
    digest ^= ChecksumOf(static_cast<uint64_t>(Number(db_, "SELECT value FROM meta WHERE name='leader_epoch'", &code)));
    digest ^= ChecksumOf(*batch.leader_epoch);
    set("leader_epoch", static_cast<int64_t>(*batch.leader_epoch));
  }
  set("digest", digest);
  return Explain(code, path_, "write");
}

// ---- reading ------------------------------------------------------------------------------------------------------

absl::StatusOr<Snapshot> SqliteStore::Load() {
  Snapshot snapshot;
  int code = SQLITE_OK;
  snapshot.leader_epoch = static_cast<uint64_t>(Number(db_, "SELECT value FROM meta WHERE name='leader_epoch'", &code));
  int64_t digest = Number(db_, "SELECT value FROM meta WHERE name='digest'", &code);
  // What a fresh file is made with is not in its digest.
  digest ^= ChecksumOf(snapshot.leader_epoch) ^ ChecksumOf(uint64_t{0});
  const auto damaged = [&](const std::string& what) {
    return absl::DataLossError(absl::StrCat(path_, " is damaged: ", what, " is not what was written", kRecover));
  };

  Statement devices(db_, "SELECT * FROM devices ORDER BY name");
  while (devices.Step()) {
    Device& device = snapshot.devices.emplace_back();
    std::string name;
    int64_t checksum = 0;
    devices.Read(name);
    Reader read{devices};
    Columns(device, read);
    devices.Read(checksum);
    if (checksum != ChecksumOf(device) || name != device.Name()) return damaged("the row of a device");
    digest ^= checksum;
  }
  Statement operations(db_, "SELECT * FROM operations ORDER BY id");
  while (operations.Step()) {
    Operation& operation = snapshot.operations.emplace_back();
    int64_t checksum = 0;
    operations.Read(operation.id);
    Reader read{operations};
    Columns(operation, read);
    operations.Read(checksum);
    if (checksum != ChecksumOf(operation) || operation.state > Operation::State::kRefused) {
      return damaged("the row of an operation");
    }
    digest ^= checksum;
  }
  Statement deployments(db_, "SELECT * FROM deployments ORDER BY name");
  while (deployments.Step()) {
    Deployment& deployment = snapshot.deployments.emplace_back();
    int64_t checksum = 0;
    deployments.Read(deployment.name);
    Reader read{deployments};
    Columns(deployment, read);
    deployments.Read(checksum);
    if (checksum != ChecksumOf(deployment)) return damaged("the row of a deployment");
    digest ^= checksum;
  }
  for (int each : {devices.code(), operations.code(), deployments.code()}) {
    if (code == SQLITE_OK) code = each;
  }
  if (code != SQLITE_OK) return Explain(code, path_, "read");
  if (digest != 0) return damaged("the set of rows");
  return snapshot;
}

}  // namespace tandem::scheduler::store
