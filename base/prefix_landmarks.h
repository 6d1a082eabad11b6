// The blocks that a prompt's beginning is known by outside the engine that holds it.
//
// An engine keeps a hash for every full block. The scheduler, which chooses among many engines, need not know them all:
// it hears of those that end the first 2, 4, 8, 16, 24, 32, 48, ... blocks, so a prompt of any length has 22 at most,
// and how far two prompts agree is known to a half, or a third where it is long. A landmark's name is the first 8 bytes
// of its block's hash: two that meet by chance cost a wrong guess, never a wrong answer.
#ifndef TANDEM_BASE_PREFIX_LANDMARKS_H_
#define TANDEM_BASE_PREFIX_LANDMARKS_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace tandem {

// The block of the KV cache; part of the protocol, so it is no option.
inline constexpr size_t kPrefixBlockTokens = 16;

// Full blocks up to and with each landmark: powers of two, and from 16 on halfway to the next one; to 131,072 tokens.
inline constexpr std::array<int32_t, 22> kLandmarkBlocks = {
    2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192};

constexpr bool IsLandmark(int32_t blocks) {
  return std::binary_search(kLandmarkBlocks.begin(), kLandmarkBlocks.end(), blocks);
}

// The name of the landmark whose block has this hash (16 bytes, base/prefix_hash).
constexpr uint64_t LandmarkOf(const std::array<uint8_t, 16>& hash) {
  uint64_t name = 0;
  for (size_t i = 0; i < 8; ++i) name |= uint64_t{hash[i]} << (8 * i);
  return name;
}

}  // namespace tandem

#endif  // TANDEM_BASE_PREFIX_LANDMARKS_H_
