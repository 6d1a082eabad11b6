#include "scheduler/ids.h"

#include <glog/logging.h>
#include <sys/random.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace tandem::scheduler {
namespace {

void FillRandom(void* out, size_t size) {
  auto* at = static_cast<char*>(out);
  while (size > 0) {
    const ssize_t got = getrandom(at, size, 0);
    if (got < 0 && errno == EINTR) continue;
    PCHECK(got > 0) << "getrandom";
    at += got;
    size -= static_cast<size_t>(got);
  }
}

struct Words {
  uint64_t hi = 0, lo = 0;
};

// One system call serves 128 ids: at thousands of requests a second the call itself would be seen.
Words RandomWords() {
  thread_local Words pool[128];
  thread_local size_t left = 0;
  if (left == 0) {
    FillRandom(pool, sizeof(pool));
    left = std::size(pool);
  }
  return pool[--left];
}

std::optional<Words> WordsFromBytes(absl::string_view bytes) {
  if (bytes.size() != 16) return std::nullopt;
  Words words;
  for (int i = 0; i < 8; ++i) {
    words.hi = words.hi << 8 | static_cast<uint8_t>(bytes[i]);
    words.lo = words.lo << 8 | static_cast<uint8_t>(bytes[i + 8]);
  }
  return words;
}

}  // namespace

std::string RandomBytes(size_t size) {
  std::string bytes(size, '\0');
  FillRandom(bytes.data(), size);
  return bytes;
}

core::RequestId RandomRequestId() {
  const Words words = RandomWords();
  return {words.hi, words.lo};
}

uint64_t RandomSeed() { return RandomWords().lo; }

std::string ToBytes(uint64_t hi, uint64_t lo) {
  std::string bytes(16, '\0');
  for (int i = 0; i < 8; ++i) {
    bytes[i] = static_cast<char>(hi >> (56 - 8 * i));
    bytes[i + 8] = static_cast<char>(lo >> (56 - 8 * i));
  }
  return bytes;
}

std::optional<core::RequestId> RequestIdFromBytes(absl::string_view bytes) {
  const auto words = WordsFromBytes(bytes);
  if (!words) return std::nullopt;
  return core::RequestId{words->hi, words->lo};
}

std::optional<core::Incarnation> IncarnationFromBytes(absl::string_view bytes) {
  const auto words = WordsFromBytes(bytes);
  if (!words) return std::nullopt;
  return core::Incarnation{words->hi, words->lo};
}

std::string ToHex(core::RequestId id) { return absl::StrFormat("%016x%016x", id.hi, id.lo); }

std::optional<core::RequestId> RequestIdFromHex(absl::string_view text) {
  absl::ConsumePrefix(&text, "requests/");
  if (text.size() != 32) return std::nullopt;
  Words words;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = absl::ascii_tolower(text[i]);
    int digit;
    if (c >= '0' && c <= '9') {
      digit = c - '0';
    } else if (c >= 'a' && c <= 'f') {
      digit = c - 'a' + 10;
    } else {
      return std::nullopt;
    }
    uint64_t& word = i < 16 ? words.hi : words.lo;
    word = word << 4 | static_cast<uint64_t>(digit);
  }
  return core::RequestId{words.hi, words.lo};
}

}  // namespace tandem::scheduler
