// The packets by which ranks meet. Both ends run on one machine, so the structs travel as they lie in memory; the magic
// holds a version, for workers of two builds.
//
//     rank r                        rank 0
//     Hello (who, secret)   ->
//                           <-      Notice kNotYet | kRefused           then the connection ends
//                           <-      Notice kWelcome + memfd + one pidfd per rank, once all ranks are there
//     Notice kMapped        ->
//                           <-      Notice kGo, once all have mapped
#ifndef TANDEM_WORKER_COMM_BOOTSTRAP_WIRE_H_
#define TANDEM_WORKER_COMM_BOOTSTRAP_WIRE_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <type_traits>

#include "absl/strings/string_view.h"
#include "worker/comm/group_identity.h"
#include "worker/comm/group_memory.h"

namespace tandem::worker {

struct Hello {
  static constexpr uint64_t kMagic = 0x31306f6c6c6568;  // "hello01"
  uint64_t magic = kMagic;
  uint64_t group_id = 0;
  uint64_t epoch_leader = 0;
  uint32_t epoch_counter = 0;
  uint32_t rank = 0;
  uint32_t size = 0;
  uint32_t reserved = 0;
  uint8_t secret[16] = {};
};

struct Notice {
  static constexpr uint64_t kMagic = 0x3130656369746f6e;  // "notice01"
  static constexpr size_t kMaxText = 400;
  enum Kind : uint32_t {
    kNotYet = 1,   // Try again later; the text says what is missing.
    kRefused = 2,  // For good: `code` and the text.
    kWelcome = 3,  // `shape`, `may_spin`, `pids`, and the descriptors beside the packet.
    kMapped = 4,
    kGo = 5,
  };

  uint64_t magic = kMagic;
  Kind kind = kNotYet;
  uint32_t code = 0;  // An absl::StatusCode.
  GroupShape shape;
  uint32_t may_spin = 0;
  int32_t pids[kMaxRanks] = {};
  uint32_t text_bytes = 0;
  char text[kMaxText] = {};

  void set_text(absl::string_view value) {
    text_bytes = static_cast<uint32_t>(std::min(value.size(), kMaxText));
    std::memcpy(text, value.data(), text_bytes);
  }
  absl::string_view get_text() const { return absl::string_view(text, std::min<size_t>(text_bytes, kMaxText)); }
};

template <typename T>
absl::string_view AsBytes(const T& packet) {
  static_assert(std::is_trivially_copyable_v<T>);
  return absl::string_view(reinterpret_cast<const char*>(&packet), sizeof(packet));
}

// Nothing where the bytes are no T of this version.
template <typename T>
std::optional<T> Parse(absl::string_view bytes) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (bytes.size() != sizeof(T)) return std::nullopt;
  T packet;
  std::memcpy(&packet, bytes.data(), sizeof(T));
  if (packet.magic != T::kMagic) return std::nullopt;
  return packet;
}

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_COMM_BOOTSTRAP_WIRE_H_
