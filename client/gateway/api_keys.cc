#include "client/gateway/api_keys.h"

#include <glog/logging.h>
#include <openssl/sha.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tandem::gateway {
namespace {

constexpr uint64_t kLargestFile = 1 << 20;
constexpr size_t kLongestKey = 512;
constexpr absl::Duration kBetweenLooks = absl::Seconds(1);

ApiKeys::Digest DigestOf(absl::string_view text) {
  ApiKeys::Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return digest;
}

// Names become labels of metrics and stand in lists.
bool IsName(absl::string_view text) {
  return !text.empty() && text.size() <= kLongestTenantName && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
  });
}

// What can stand in a header.
bool IsKey(absl::string_view text) {
  return !text.empty() && text.size() <= kLongestKey &&
         std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isgraph(c); });
}

}  // namespace

ApiKeys::ApiKeys(const std::vector<std::string>& keys, std::string file) : file_(std::move(file)) {
  for (const std::string& key : keys) given_.emplace(DigestOf(key), Caller());
}

size_t ApiKeys::size() const {
  absl::MutexLock lock(&mu_);
  return given_.size() + listed_.size();
}

// Never quotes a line: it may hold a key.
absl::StatusOr<ApiKeys::Callers> ApiKeys::Parse(absl::string_view text) {
  Callers callers;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') continue;
    const auto wrong = [number](absl::string_view what) {
      return absl::InvalidArgumentError(absl::StrCat("line ", number, ": ", what));
    };
    const size_t colon = line.find(':');
    if (colon == absl::string_view::npos) return wrong("expected NAME:KEY, and there is no colon");
    const absl::string_view name = line.substr(0, colon);
    const std::vector<absl::string_view> words =
        absl::StrSplit(line.substr(colon + 1), absl::ByAnyChar(" \t"), absl::SkipEmpty());
    const absl::string_view key = words.empty() ? "" : words[0];
    const auto highest = words.size() == 2 ? security::ReadHighestPriority(words[1]) : 0;
    if (!IsName(name)) return wrong("a tenant's name has 1 to 64 letters, digits, \".\", \"_\" and \"-\"");
    if (!IsKey(key)) return wrong("a key has 1 to 512 visible characters and no space");
    if (words.size() > 2 || !highest) {
      return wrong("after a key may stand highest_priority=N with N from -100 to 100, and nothing else");
    }
    if (!callers.emplace(DigestOf(key), Caller{std::string(name), *highest}).second)
      return wrong("this key stands there already");
    if (callers.size() > kMostKeys) return wrong(absl::StrCat("more than ", kMostKeys, " keys"));
  }
  if (callers.empty()) return absl::InvalidArgumentError("there is no key in it");
  return callers;
}

absl::StatusOr<ApiKeys::Stamp> ApiKeys::Look() const {
  struct stat info;
  if (stat(file_.c_str(), &info) != 0) {
    return absl::FailedPreconditionError(absl::StrCat("cannot be read: ", strerror(errno)));
  }
  if (!S_ISREG(info.st_mode)) return absl::FailedPreconditionError("is not a file");
  return Stamp{.device = info.st_dev,
               .inode = info.st_ino,
               .size = static_cast<uint64_t>(info.st_size),
               .modified_ns = info.st_mtim.tv_sec * int64_t{1000000000} + info.st_mtim.tv_nsec};
}

absl::StatusOr<ApiKeys::Callers> ApiKeys::Read() const {
  std::ifstream file(file_, std::ios::binary);
  std::string text(kLargestFile + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad() || (!file && !file.eof())) return absl::FailedPreconditionError("cannot be read");
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kLargestFile) return absl::InvalidArgumentError("is larger than 1 MiB");
  return Parse(text);
}

absl::Status ApiKeys::Load() {
  if (file_.empty()) return absl::OkStatus();
  // Looked at before it is read: a change in between is read again.
  const auto stamp = Look();
  const auto callers = stamp.ok() ? Read() : stamp.status();
  if (!callers.ok())
    return absl::Status(callers.status().code(), absl::StrCat(file_, ": ", callers.status().message()));
  absl::MutexLock lock(&mu_);
  stamp_ = *stamp;
  listed_ = *callers;
  return absl::OkStatus();
}

void ApiKeys::ReadIfChanged(absl::Time now) {
  if (file_.empty() || now < next_look_) return;
  next_look_ = now + kBetweenLooks;
  const auto stamp = Look();
  const std::optional<Stamp> seen = stamp.ok() ? std::optional<Stamp>(*stamp) : std::nullopt;
  if (seen == stamp_) return;
  stamp_ = seen;
  auto callers = stamp.ok() ? Read() : stamp.status();
  if (!callers.ok()) {
    LOG(ERROR) << "API keys: " << file_ << ": " << callers.status().message() << "; the keys from before stay good";
    return;
  }
  listed_ = *std::move(callers);
  LOG(INFO) << "API keys: " << file_ << " has changed; it has " << listed_.size() << " keys";
}

// A search among digests takes a time that says something about a digest at most, and nobody makes a key of that.
std::optional<Caller> ApiKeys::CallerOf(absl::string_view key, absl::Time now) {
  const Digest digest = DigestOf(key);
  absl::MutexLock lock(&mu_);
  ReadIfChanged(now);
  if (const auto found = listed_.find(digest); found != listed_.end()) return found->second;
  if (const auto found = given_.find(digest); found != given_.end()) return found->second;
  return std::nullopt;
}

}  // namespace tandem::gateway
