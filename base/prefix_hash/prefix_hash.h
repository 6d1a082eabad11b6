// The one name of a prompt's beginning, equal in the scheduler and in every engine.
//
// A prompt's tokens stand in blocks of 16. The hash of a block covers the block and everything before it: the first 16
// bytes of SHA-256(hash of the block before, salt, 16 token ids as little-endian u32). Before the first block there are
// 16 zero bytes. Whoever knows a hash knows which keys and values it stands for, and nobody can tell the text from it
// without the salt, which is per installation and tenant.
//
// Pure functions; any thread may call them.
#ifndef TANDEM_BASE_PREFIX_HASH_PREFIX_HASH_H_
#define TANDEM_BASE_PREFIX_HASH_PREFIX_HASH_H_

#include <array>
#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/prefix_landmarks.h"

namespace tandem {

using PrefixHash = std::array<uint8_t, 16>;

// `parent`: the hash of the block before, null for the first block.
// REQUIRES: `tokens` are exactly kPrefixBlockTokens.
PrefixHash HashPrefixBlock(const PrefixHash* parent, absl::string_view salt, absl::Span<const int32_t> tokens);

// The hashes of all full blocks of `tokens`, from the beginning.
std::vector<PrefixHash> PrefixBlocks(absl::string_view salt, absl::Span<const int32_t> tokens);

// The landmarks of `tokens` (base/prefix_landmarks.h), from the beginning. An incomplete block is none.
std::vector<uint64_t> PrefixLandmarks(absl::string_view salt, absl::Span<const int32_t> tokens);

}  // namespace tandem

#endif  // TANDEM_BASE_PREFIX_HASH_PREFIX_HASH_H_
