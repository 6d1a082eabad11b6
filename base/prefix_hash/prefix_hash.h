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

namespace tandem {

using PrefixHash = std::array<uint8_t, 16>;

// The block of the KV cache; part of the protocol, so it is no option.
inline constexpr size_t kPrefixBlockTokens = 16;
// An event carries at most this many: 4,096 tokens, beyond which equal beginnings are rare and the rest is equal too.
inline constexpr size_t kMaxPrefixHashes = 256;

// `parent`: the hash of the block before, null for the first block.
// REQUIRES: `tokens` are exactly kPrefixBlockTokens.
PrefixHash HashPrefixBlock(const PrefixHash* parent, absl::string_view salt, absl::Span<const int32_t> tokens);

// The hashes of the full blocks of `tokens`, from the beginning, at most kMaxPrefixHashes. An incomplete block has
// none.
std::vector<PrefixHash> HashPrefix(absl::string_view salt, absl::Span<const int32_t> tokens);

}  // namespace tandem

#endif  // TANDEM_BASE_PREFIX_HASH_PREFIX_HASH_H_
