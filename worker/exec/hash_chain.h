// The "model" of a simulated device: the next token is a hash over every token before it and where it stands.
//
//   chain(-1) = kChainStart
//   chain(p)  = mix(chain(p - 1) + (p + 1) * 0x9E3779B97F4A7C15 + token(p) + 1)        modulo 2^64
//   next      = chain(last) mod vocabulary, one further (cyclically) while it is an end-of-sequence id
//
// mix is the finalizer of splitmix64. A token that is lost, doubled, swapped with its neighbour, changed, or taken from
// another request changes every token after it, so whoever knows the prompt can check a stream as it comes, from any
// index on. tests/e2e/hash_chain.py computes the same; one golden vector (tests/golden/hash_chain.json) holds the two
// together.
//
// Kept per position, as keys and values are: whoever reads a wrong block, or one that was given away, computes
// something else from there on.
#ifndef TANDEM_WORKER_EXEC_HASH_CHAIN_H_
#define TANDEM_WORKER_EXEC_HASH_CHAIN_H_

#include <algorithm>
#include <cstdint>

#include "absl/types/span.h"

namespace tandem::worker {

// Not zero: memory that nobody wrote is no beginning of a sequence.
inline constexpr uint64_t kChainStart = 0x7A6E64656D5F5631;

inline uint64_t NextChain(uint64_t chain, int64_t position, int32_t token) {
  uint64_t x = chain + (static_cast<uint64_t>(position) + 1) * 0x9E3779B97F4A7C15 + static_cast<uint64_t>(token) + 1;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

// REQUIRES: some id below `vocabulary` ends no sequence.
inline int32_t TokenOfChain(uint64_t chain, int32_t vocabulary, absl::Span<const int32_t> eos_ids) {
  auto token = static_cast<int32_t>(chain % static_cast<uint64_t>(vocabulary));
  while (std::find(eos_ids.begin(), eos_ids.end(), token) != eos_ids.end()) token = (token + 1) % vocabulary;
  return token;
}

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_EXEC_HASH_CHAIN_H_
