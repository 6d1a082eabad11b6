#include "scheduler/journal.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
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
#include "scheduler/core/dump.h"
#include "scheduler/core/format.h"
#include "scheduler/core/parse.h"

namespace tandem::scheduler {
namespace {

// A segment: this line, "build VERSION", "state", the dump's lines, "events", and one event a line.
constexpr absl::string_view kFormat = "tandem-journal 1";
constexpr size_t kBufferBytes = 64 << 10;

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

// Segments of all runs, oldest first.
std::map<SegmentName, std::filesystem::path> List(const std::string& folder) {
  std::map<SegmentName, std::filesystem::path> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (const auto name = ParseName(entry.path().filename().string())) found[*name] = entry.path();
  }
  return found;
}

absl::Status BadLine(const std::string& path, int line, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(path, ":", line, ": ", why));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Journal>> Journal::Open(Options options) {
  std::error_code error;
  std::filesystem::create_directories(options.folder, error);
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot make the journal's folder ", options.folder, ": ", error.message()));
  }
  return std::unique_ptr<Journal>(new Journal(std::move(options)));
}

Journal::~Journal() {
  Flush();
  if (fd_ >= 0) close(fd_);
}

void Journal::Append(core::Instant now, const core::Event& event, const core::Core& core) {
  if (given_up_) return;
  if (fd_ < 0 || written_ >= options_.segment_bytes) OpenSegment(core);
  const size_t before = buffer_.size();
  absl::StrAppend(&buffer_, now.us, " ", core::Format(event), "\n");
  written_ += buffer_.size() - before;
  if (buffer_.size() >= kBufferBytes) Flush();
}

void Journal::Flush() {
  absl::string_view rest = buffer_;
  while (!rest.empty() && fd_ >= 0) {
    const ssize_t done = write(fd_, rest.data(), rest.size());
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) {
      GiveUp(std::strerror(errno));
      break;
    }
    rest.remove_prefix(static_cast<size_t>(done));
  }
  buffer_.clear();
}

void Journal::OpenSegment(const core::Core& core) {
  Flush();
  if (fd_ >= 0) close(fd_);
  RemoveOldest();
  const std::string path = options_.folder + "/" + FileName({options_.leader_epoch, ++segment_});
  fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd_ < 0) return GiveUp(absl::StrCat(path, ": ", std::strerror(errno)));
  buffer_ = absl::StrCat(kFormat, "\nbuild ", options_.version, "\nstate\n", core::DumpState(core.state()), "events\n");
  written_ = 0;  // events only: a state larger than a segment must not open one per event
}

void Journal::RemoveOldest() {
  auto segments = List(options_.folder);
  while (segments.size() >= static_cast<size_t>(std::max(options_.segments, 1))) {
    std::error_code ignored;  // what cannot be removed is not worth stopping for
    std::filesystem::remove(segments.begin()->second, ignored);
    segments.erase(segments.begin());
  }
}

void Journal::GiveUp(const std::string& why) {
  LOG(ERROR) << "no journal from here on: " << why;
  given_up_ = true;
}

absl::StatusOr<std::unique_ptr<core::Core>> Replay(const std::string& path, const Told& told) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot open ", path, ": ", std::strerror(errno)));
  std::string line, dump;
  int number = 0;
  const auto next = [&] { return ++number, static_cast<bool>(std::getline(file, line)); };
  if (!next() || line != kFormat) return BadLine(path, number, absl::StrCat("this is no \"", kFormat, "\""));
  if (!next() || !absl::StartsWith(line, "build ")) return BadLine(path, number, "\"build VERSION\" is wanted");
  if (!next() || line != "state") return BadLine(path, number, "\"state\" is wanted");
  while (next() && line != "events") absl::StrAppend(&dump, line, "\n");
  if (line != "events") return BadLine(path, number, "the state has no end");
  auto state = core::LoadState(dump);
  if (!state.ok()) return BadLine(path, number, state.status().message());

  auto core = std::make_unique<core::Core>(*std::move(state));
  while (next()) {
    if (file.eof()) break;  // the last line has no end: the process died while it wrote it
    const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(' ', 1));
    core::Instant now;
    if (!absl::SimpleAtoi(parts.first, &now.us)) return BadLine(path, number, "this is no event");
    const auto event = core::ParseEvent(parts.second);
    if (!event.ok()) return BadLine(path, number, event.status().message());
    told(now, std::string(parts.second), core->Step(now, *event));
  }
  return core;
}

}  // namespace tandem::scheduler
