#include "scheduler/journal_writer.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

namespace tandem::scheduler {
namespace {

struct SegmentName {
  uint64_t leader = 0;
  int number = 0;
  auto operator<=>(const SegmentName&) const = default;
};

std::string FileName(SegmentName name) { return absl::StrFormat("journal-%d-%d.log", name.leader, name.number); }

std::optional<SegmentName> ParseName(absl::string_view file) {
  SegmentName name;
  if (!absl::ConsumePrefix(&file, "journal-") || !absl::ConsumeSuffix(&file, ".log")) return std::nullopt;
  const std::vector<absl::string_view> parts = absl::StrSplit(file, '-');
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &name.leader) || !absl::SimpleAtoi(parts[1], &name.number)) {
    return std::nullopt;
  }
  return name;
}

void RemoveOldest(const std::string& folder, int most) {
  std::map<SegmentName, std::filesystem::path> segments;  // of all runs, oldest first
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (const auto name = ParseName(entry.path().filename().string())) segments[*name] = entry.path();
  }
  while (segments.size() >= static_cast<size_t>(std::max(most, 1))) {
    std::error_code ignored;  // what cannot be removed is not worth stopping for
    std::filesystem::remove(segments.begin()->second, ignored);
    segments.erase(segments.begin());
  }
}

}  // namespace

JournalWriter::JournalWriter(Options options) : options_(std::move(options)), thread_([this] { Run(); }) {}

JournalWriter::~JournalWriter() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    changed_.SignalAll();
  }
  thread_.join();
  if (fd_ >= 0) close(fd_);
}

JournalWriter::Takes JournalWriter::takes() const {
  absl::MutexLock lock(&mu_);
  if (open_) return Takes::kText;
  return !writing_ && std::chrono::steady_clock::now() >= again_at_ ? Takes::kSegment : Takes::kNothing;
}

void JournalWriter::BeginSegment(std::string text) { Post({true, std::move(text)}); }
void JournalWriter::Append(absl::string_view text) { Post({false, std::string(text)}); }

void JournalWriter::Post(Piece piece) {
  bool wake;
  {
    absl::MutexLock lock(&mu_);
    if (piece.begins) open_ = true;
    if (!open_ || piece.text.empty()) return;
    waiting_bytes_ += piece.text.size();
    waiting_.push_back(std::move(piece));
    if (waiting_bytes_ > options_.most_waiting) {
      return Close(absl::StrCat("the disk did not take ", waiting_bytes_, " bytes in time"));
    }
    wake = std::exchange(asleep_, false);
  }
  if (wake) changed_.SignalAll();
}

void JournalWriter::Sync() {
  absl::MutexLock lock(&mu_);
  hurry_ = true;
  changed_.SignalAll();
  while (!waiting_.empty() || writing_) changed_.Wait(&mu_);
  hurry_ = false;
}

void JournalWriter::Close(const std::string& why) {
  LOG(ERROR) << "the journal stops for " << absl::FormatDuration(options_.pause) << ": " << why;
  open_ = false;
  again_at_ = SteadyDeadline(options_.pause);
  waiting_.clear();
  waiting_bytes_ = 0;
}

void JournalWriter::Run() {
  absl::MutexLock lock(&mu_);
  while (true) {
    while (waiting_.empty() && !stopping_) {
      asleep_ = true;
      changed_.SignalAll();
      changed_.Wait(&mu_);
    }
    asleep_ = false;
    const SteadyTime gathered = SteadyDeadline(kGather);
    while (!stopping_ && !hurry_ && !changed_.WaitUntil(&mu_, gathered)) {
    }
    if (waiting_.empty() && stopping_) return;
    const std::vector<Piece> pieces = std::exchange(waiting_, {});
    waiting_bytes_ = 0;
    writing_ = true;
    mu_.Unlock();
    const std::string failed = WriteAll(pieces);
    mu_.Lock();
    writing_ = false;
    if (!failed.empty()) Close(failed);
    changed_.SignalAll();
  }
}

std::string JournalWriter::WriteAll(const std::vector<Piece>& pieces) {
  for (const Piece& piece : pieces) {
    if (piece.begins) {
      if (std::string failed = OpenNext(); !failed.empty()) return failed;
    }
    absl::string_view rest = piece.text;
    while (!rest.empty()) {
      const ssize_t done = write(fd_, rest.data(), rest.size());
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) return std::strerror(errno);
      rest.remove_prefix(static_cast<size_t>(done));
    }
  }
  return "";
}

std::string JournalWriter::OpenNext() {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
  RemoveOldest(options_.folder, options_.segments);
  const std::string path = options_.folder + "/" + FileName({options_.leader_epoch, ++segment_});
  fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  return fd_ < 0 ? absl::StrCat(path, ": ", std::strerror(errno)) : "";
}

}  // namespace tandem::scheduler
