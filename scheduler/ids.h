// Ids of 128 bits in their three shapes: two words in the core, 16 raw bytes on the wire between programs, 32
// lower-case hex digits where people see them. And where the random ones come from.
#ifndef TANDEM_SCHEDULER_IDS_H_
#define TANDEM_SCHEDULER_IDS_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "scheduler/core/types.h"

namespace tandem::scheduler {

// `size` bytes from the kernel's random source. Dies if there is none: an id that repeats is worse.
std::string RandomBytes(size_t size);
core::RequestId RandomRequestId();
uint64_t RandomSeed();

std::string ToBytes(uint64_t hi, uint64_t lo);
// Nothing unless `bytes` are exactly 16.
std::optional<core::RequestId> RequestIdFromBytes(absl::string_view bytes);
std::optional<core::Incarnation> IncarnationFromBytes(absl::string_view bytes);

std::string ToHex(core::RequestId id);
// Takes "requests/<hex>" too. Nothing unless exactly 32 hex digits follow.
std::optional<core::RequestId> RequestIdFromHex(absl::string_view text);

}  // namespace tandem::scheduler

#endif  // TANDEM_SCHEDULER_IDS_H_
