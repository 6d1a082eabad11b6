#include "scheduler/leader_epoch.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace tandem::scheduler {
namespace {

absl::Status Failed(absl::string_view what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat(what, " ", path));
}

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }
  int Release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }

 private:
  int fd_;
};

// 0 when there is none yet.
absl::StatusOr<uint64_t> Read(const std::string& path) {
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) {
    if (errno == ENOENT) return 0;
    return Failed("cannot open", path);
  }
  char text[64];
  const ssize_t size = read(fd.get(), text, sizeof(text));
  if (size < 0) return Failed("cannot read", path);
  uint64_t value = 0;
  const absl::string_view digits = absl::StripAsciiWhitespace(absl::string_view(text, size));
  if (digits.empty() || !absl::ascii_isdigit(digits[0]) || !absl::SimpleAtoi(digits, &value) || value == UINT64_MAX) {
    return absl::DataLossError(absl::StrCat(path,
                                            " holds no leader epoch; write the number of the last one that ran "
                                            "there, or remove the state folder and restart all workers"));
  }
  return value;
}

absl::Status Write(const std::string& dir, const std::string& path, uint64_t value) {
  const std::string next = path + ".next";
  {
    Fd fd(open(next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (fd.get() < 0) return Failed("cannot create", next);
    const std::string text = absl::StrCat(value, "\n");
    if (write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
      return Failed("cannot write", next);
    }
    if (fsync(fd.get()) != 0) return Failed("cannot sync", next);
  }
  if (rename(next.c_str(), path.c_str()) != 0) return Failed("cannot rename", next);
  Fd folder(open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() < 0 || fsync(folder.get()) != 0) return Failed("cannot sync", dir);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<LeaderEpoch>> LeaderEpoch::Raise(const std::string& state_dir) {
  std::error_code error;
  if (!std::filesystem::exists(state_dir, error)) {
    std::filesystem::create_directories(state_dir, error);
    if (error) {
      return absl::FailedPreconditionError(
          absl::StrCat("cannot make the state folder ", state_dir, ": ", error.message()));
    }
    chmod(state_dir.c_str(), 0700);
  }
  const std::string lock_path = state_dir + "/lock";
  Fd lock(open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (lock.get() < 0) return Failed("cannot open", lock_path);
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return Failed("cannot lock", lock_path);
    return absl::FailedPreconditionError(
        absl::StrCat("another scheduler uses the state folder ", state_dir, "; give this one another --state-dir"));
  }
  const std::string path = state_dir + "/leader_epoch";
  auto stored = Read(path);
  if (!stored.ok()) return stored.status();
  if (absl::Status status = Write(state_dir, path, *stored + 1); !status.ok()) return status;
  return std::unique_ptr<LeaderEpoch>(new LeaderEpoch(lock.Release(), *stored + 1));
}

LeaderEpoch::~LeaderEpoch() { close(lock_fd_); }

}  // namespace tandem::scheduler
