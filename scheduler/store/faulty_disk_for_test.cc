#include "scheduler/store/faulty_disk_for_test.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tandem::scheduler::store {
namespace {

struct OpenFile {
  sqlite3_file base;
  FaultyDisk* disk;
  std::string* name;
};

OpenFile* Of(sqlite3_file* file) { return reinterpret_cast<OpenFile*>(file); }
std::string& Content(sqlite3_file* file) { return Of(file)->disk->files()[*Of(file)->name]; }

int Close(sqlite3_file* file) {
  delete Of(file)->name;
  return SQLITE_OK;
}
int Read(sqlite3_file* file, void* out, int size, sqlite3_int64 offset) {
  const std::string& content = Content(file);
  const size_t from = std::min(content.size(), static_cast<size_t>(offset));
  const size_t there = std::min(content.size() - from, static_cast<size_t>(size));
  std::memcpy(out, content.data() + from, there);
  std::memset(static_cast<char*>(out) + there, 0, static_cast<size_t>(size) - there);
  return there == static_cast<size_t>(size) ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}
int Write(sqlite3_file* file, const void* data, int size, sqlite3_int64 offset) {
  return Of(file)->disk->Take({FaultyDisk::Kind::kWrite, *Of(file)->name, offset,
                               std::string(static_cast<const char*>(data), static_cast<size_t>(size))});
}
int Truncate(sqlite3_file* file, sqlite3_int64 size) {
  return Of(file)->disk->Take({FaultyDisk::Kind::kTruncate, *Of(file)->name, size, ""});
}
int Sync(sqlite3_file* file, int) { return Of(file)->disk->Take({FaultyDisk::Kind::kSync, *Of(file)->name, 0, ""}); }
int Size(sqlite3_file* file, sqlite3_int64* size) {
  *size = static_cast<sqlite3_int64>(Content(file).size());
  return SQLITE_OK;
}
int Lock(sqlite3_file*, int) { return SQLITE_OK; }
int IsReserved(sqlite3_file*, int* out) {
  *out = 0;
  return SQLITE_OK;
}
int Control(sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; }
int SectorSize(sqlite3_file*) { return 512; }
int Characteristics(sqlite3_file*) { return 0; }

constexpr sqlite3_io_methods kMethods = {1,    Close, Read,       Write,   Truncate,   Sync,           Size,
                                         Lock, Lock,  IsReserved, Control, SectorSize, Characteristics};

FaultyDisk* DiskOf(sqlite3_vfs* vfs) { return static_cast<FaultyDisk*>(vfs->pAppData); }

int Open(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out_flags) {
  static int temporary = 0;
  OpenFile* open = new (file) OpenFile{};
  open->base.pMethods = &kMethods;
  open->disk = DiskOf(vfs);
  open->name = new std::string(name != nullptr ? name : absl::StrCat("temporary-", ++temporary));
  open->disk->files()[*open->name];
  if (out_flags != nullptr) *out_flags = flags;
  return SQLITE_OK;
}
int Delete(sqlite3_vfs* vfs, const char* name, int) {
  return DiskOf(vfs)->Take({FaultyDisk::Kind::kDelete, name, 0, ""});
}
int Access(sqlite3_vfs* vfs, const char* name, int, int* out) {
  const auto found = DiskOf(vfs)->files().find(name);
  *out = found != DiskOf(vfs)->files().end() && !found->second.empty();
  return SQLITE_OK;
}
int FullPath(sqlite3_vfs*, const char* name, int size, char* out) {
  sqlite3_snprintf(size, out, "%s", name);
  return SQLITE_OK;
}
int Randomness(sqlite3_vfs*, int size, char* out) {
  static unsigned state = 1;  // equal runs write equal bytes
  for (int i = 0; i < size; ++i) out[i] = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return size;
}
int Sleep(sqlite3_vfs*, int) { return 0; }
int Time(sqlite3_vfs*, double* out) {
  *out = 2460000;
  return SQLITE_OK;
}
int LastError(sqlite3_vfs*, int, char*) { return 0; }

}  // namespace

FaultyDisk::FaultyDisk(Files files) : files_(std::move(files)), vfs_(std::make_unique<sqlite3_vfs>()) {
  static int count = 0;
  name_ = absl::StrCat("faulty-", ++count);
  *vfs_ = {};
  vfs_->iVersion = 1;
  vfs_->szOsFile = sizeof(OpenFile);
  vfs_->mxPathname = 512;
  vfs_->zName = name_.c_str();
  vfs_->pAppData = this;
  vfs_->xOpen = Open;
  vfs_->xDelete = Delete;
  vfs_->xAccess = Access;
  vfs_->xFullPathname = FullPath;
  vfs_->xRandomness = Randomness;
  vfs_->xSleep = Sleep;
  vfs_->xCurrentTime = Time;
  vfs_->xGetLastError = LastError;
  sqlite3_vfs_register(vfs_.get(), 0);
}

FaultyDisk::~FaultyDisk() { sqlite3_vfs_unregister(vfs_.get()); }

int FaultyDisk::Take(Step step) {
  if (fault_ != nullptr) {
    if (const int code = fault_(step.kind); code != SQLITE_OK) return code;
  }
  Apply(step, step.bytes.size(), files_);
  steps_.push_back(std::move(step));
  return SQLITE_OK;
}

void FaultyDisk::Apply(const Step& step, size_t bytes, Files& files) {
  switch (step.kind) {
    case Kind::kWrite: {
      std::string& content = files[step.file];
      const size_t end = static_cast<size_t>(step.offset) + bytes;
      if (content.size() < end) content.resize(end);
      content.replace(static_cast<size_t>(step.offset), bytes, step.bytes, 0, bytes);
      return;
    }
    case Kind::kTruncate:
      files[step.file].resize(static_cast<size_t>(step.offset));
      return;
    case Kind::kDelete:
      files.erase(step.file);
      return;
    case Kind::kSync:
      return;
  }
}

FaultyDisk::Files FaultyDisk::After(const std::vector<Step>& steps, size_t count, size_t bytes) {
  Files files;
  for (size_t i = 0; i < count; ++i) Apply(steps[i], steps[i].bytes.size(), files);
  if (bytes > 0) Apply(steps[count], bytes, files);
  return files;
}

FaultyDisk::Files FaultyDisk::AfterPowerLoss(const std::vector<Step>& steps, size_t count,
                                             const std::function<bool()>& came) {
  // From the end: a sync makes certain what stands before it in its file.
  std::vector<bool> taken(count);
  std::set<std::string> synced;
  for (size_t i = count; i-- > 0;) {
    if (steps[i].kind == Kind::kSync) synced.insert(steps[i].file);
    taken[i] = steps[i].kind != Kind::kWrite || synced.contains(steps[i].file) || came();
  }
  Files files;
  for (size_t i = 0; i < count; ++i) {
    if (taken[i]) Apply(steps[i], steps[i].bytes.size(), files);
  }
  return files;
}

}  // namespace tandem::scheduler::store
