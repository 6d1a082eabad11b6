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

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "scheduler/core/event_fields.h"
#include "scheduler/core/format.h"
#include "scheduler/core/parse.h"

namespace tandem::core {

template <>
struct Fields<CoreOptions> {
  static void Visit(auto&& v) {
    using T = CoreOptions;
    v("suspect_after", &T::suspect_after);
    v("fence_after", &T::fence_after);
    v("detach_grace", &T::detach_grace);
    v("stuck_after", &T::stuck_after);
    v("reattach_window", &T::reattach_window);
    v("form_deadline", &T::form_deadline);
    v("load_deadline", &T::load_deadline);
    v("leave_deadline", &T::leave_deadline);
    v("retry_first", &T::retry_first);
    v("retry_most", &T::retry_most);
    v("drain_deadline", &T::drain_deadline);
    v("waiting_room_requests", &T::waiting_room_requests);
    v("waiting_room_tokens", &T::waiting_room_tokens);
    v("retry_hint", &T::retry_hint);
    v("most_attempts", &T::most_attempts);
    v("engine_queue", &T::engine_queue);
    v("overcommit", &T::overcommit);
    v("default_output", &T::default_output);
    v("remembered", &T::remembered);
  }
};

}  // namespace tandem::core

namespace tandem::scheduler {
namespace {

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

// Steps `core` through one file, or makes it from the file's options where it is null.
absl::Status ReplayFile(const std::string& path, const Told& told, std::unique_ptr<core::Core>* core) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot open ", path, ": ", std::strerror(errno)));
  std::string line;
  int number = 0;
  while (std::getline(file, line)) {
    ++number;
    if (number == 1) {
      if (line != kFormat) return BadLine(path, number, absl::StrCat("this is no \"", kFormat, "\""));
      continue;
    }
    if (file.eof()) break;  // the last line has no end: the process died while it wrote it
    const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(' ', 1));
    if (parts.first == "build") continue;
    if (parts.first == "options") {
      const auto parsed = core::ParseTextLine(line);
      if (!parsed.ok()) return BadLine(path, number, parsed.status().message());
      core::CoreOptions options;
      if (absl::Status status = core::GetFields(parsed->pairs, options); !status.ok()) {
        return BadLine(path, number, status.message());
      }
      if (*core == nullptr) *core = std::make_unique<core::Core>(options);
      continue;
    }
    core::Instant now;
    if (!absl::SimpleAtoi(parts.first, &now.us)) return BadLine(path, number, "this is neither an event nor a heading");
    if (*core == nullptr) return BadLine(path, number, "an event before the options");
    const auto event = core::ParseEvent(parts.second);
    if (!event.ok()) return BadLine(path, number, event.status().message());
    told(now, std::string(parts.second), (*core)->Step(now, *event));
  }
  if (number == 0) return BadLine(path, 1, "the file is empty");
  return absl::OkStatus();
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
  std::string values;
  core::PutFields(values, core.state().options);
  buffer_ = absl::StrCat(kFormat, "\nbuild ", options_.version, "\noptions", values.empty() ? "" : " ", values, "\n");
  written_ = buffer_.size();
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
  const std::filesystem::path file(path);
  std::unique_ptr<core::Core> core;
  // What the core was before a later segment is what the earlier ones of the same run made it.
  if (const auto name = ParseName(file.filename().string())) {
    const std::string folder = file.has_parent_path() ? file.parent_path().string() : ".";
    const auto segments = List(folder);
    for (int number = 1; number < name->number; ++number) {
      const auto earlier = segments.find({name->leader, number});
      if (earlier == segments.end()) {
        return absl::FailedPreconditionError(
            absl::StrCat(path, " continues ", FileName({name->leader, number}), ", which is not beside it"));
      }
      const absl::Status status = ReplayFile(
          earlier->second.string(), [](core::Instant, const std::string&, const core::Actions&) {}, &core);
      if (!status.ok()) return status;
    }
  }
  if (absl::Status status = ReplayFile(path, told, &core); !status.ok()) return status;
  if (core == nullptr) return BadLine(path, 1, "the journal has no options");
  return core;
}

}  // namespace tandem::scheduler
