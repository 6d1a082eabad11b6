#include "scheduler/journal.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "scheduler/core/dump.h"
#include "scheduler/core/format.h"
#include "scheduler/core/parse.h"

namespace tandem::scheduler {
namespace {

// A segment: this line, "build VERSION", "state", the dump's lines, "events", and one event a line.
constexpr absl::string_view kFormat = "tandem-journal 1";
constexpr size_t kBufferBytes = 64 << 10;

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

Journal::Journal(Options options)
    : options_(std::move(options)),
      writer_({.folder = options_.folder, .leader_epoch = options_.leader_epoch, .segments = options_.segments}) {}

Journal::~Journal() { Flush(); }

void Journal::Append(core::Instant now, const core::Event& event, const core::Core& core) {
  switch (writer_.takes()) {
    case JournalWriter::Takes::kNothing:
      return;
    case JournalWriter::Takes::kSegment:
      BeginSegment(core);
      break;
    case JournalWriter::Takes::kText:
      if (written_ >= options_.segment_bytes) BeginSegment(core);
      break;
  }
  const size_t before = buffer_.size();
  absl::StrAppend(&buffer_, now.us, " ", core::Format(event), "\n");
  written_ += buffer_.size() - before;
  if (buffer_.size() >= kBufferBytes) Flush();
}

void Journal::Flush() {
  writer_.Append(buffer_);
  buffer_.clear();
}

void Journal::Sync() {
  Flush();
  writer_.Sync();
}

void Journal::BeginSegment(const core::Core& core) {
  Flush();
  writer_.BeginSegment(
      absl::StrCat(kFormat, "\nbuild ", options_.version, "\nstate\n", core::DumpState(core.state()), "events\n"));
  written_ = 0;  // events only: a state larger than a segment must not open one per event
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
