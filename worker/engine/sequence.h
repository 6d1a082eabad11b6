// A Sequence is a request on its way through rank 0: its tokens, its blocks, and how far it is computed.
//
//     waiting --admit--> running --last token--> gone
//        ^                  |
//        +----preempted-----+      blocks are freed, tokens stay and are computed again
//
// Plain state; Batcher alone changes it.
#ifndef TANDEM_WORKER_ENGINE_SEQUENCE_H_
#define TANDEM_WORKER_ENGINE_SEQUENCE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "worker/engine/request.h"
#include "worker/engine/sampler.h"
#include "worker/kv/block_allocator.h"

namespace tandem::worker {

struct Sequence {
  std::shared_ptr<const Request> request;
  uint64_t arrival = 0;           // Counts the requests of this batcher.
  std::vector<TokenId> tokens;    // Prompt, then output.
  TokenCounts counts;             // Filled only if the sampling penalizes.
  std::vector<uint8_t> image;     // Of an encoder: the picture that the tokens stand for.
  std::vector<BlockHash> hashes;  // Of the full blocks of `tokens`, as far as they were needed.
  bool started = false;           // Was admitted before, perhaps preempted since.

  // While running; else empty.
  std::optional<uint32_t> slot;
  std::vector<BlockId> blocks;
  int32_t computed = 0;    // tokens[0, computed) have keys and values in `blocks`.
  int32_t published = 0;   // Full blocks that the prefix cache was told of.
  bool announced = false;  // A plan has carried it; the ranks know its slot,
  size_t sent_blocks = 0;  // and this many of its blocks.

  int32_t size() const { return static_cast<int32_t>(tokens.size()); }
  int32_t to_compute() const { return size() - computed; }
  uint32_t output_tokens() const { return static_cast<uint32_t>(tokens.size() - request->prompt.size()); }
};

// Blocks that hold the keys and values of `tokens` tokens.
inline int32_t BlocksFor(int64_t tokens) { return static_cast<int32_t>((tokens + kBlockTokens - 1) / kBlockTokens); }

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_ENGINE_SEQUENCE_H_
