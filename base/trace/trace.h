// A trace: which requests came when, and how long they were; recorded, or drawn from a seed. What `tandemctl bench`
// sends and `tandemctl simulate` replays. Equal arguments, equal requests.
//
// CSV with a header, or JSON lines, plain or gzip; times are milliseconds since the trace's start:
//
//   arrival_ms,input_tokens,output_tokens            "client" becomes the tenant; other columns are passed over but for
//   ...,session,req,parent,shared_blocks,blocks      these five, which say what a prompt shares with an earlier one:
//   the
//                                                    first shared_blocks blocks of 64 tokens of request `parent` of
//                                                    the same session (-1: none), and fresh ones up to `blocks`
//   {"arrival_ms": 0, "input_tokens": 6758, "output_tokens": 500, "hash_ids": [0, 1, 2]}
//   {"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, 2]}     as Mooncake publishes them
//
// hash_ids name the 512-token blocks of a prompt: equal ids at its beginning are equal tokens, so that prefix caches
// have what the trace's had. A request without blocks has a prompt like no other.
#ifndef TANDEM_BASE_TRACE_TRACE_H_
#define TANDEM_BASE_TRACE_TRACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem {

struct TraceRequest {
  int64_t due_us = 0;  // since the start; 0 for all of a closed loop
  uint32_t input_tokens = 0;
  uint32_t output_tokens = 0;
  std::string tenant;
  std::vector<uint64_t> blocks;  // of block_tokens each, from the prompt's beginning
  uint32_t block_tokens = 512;
};

inline constexpr uint32_t kMostTraceTokens = 1u << 22;      // of a prompt, and of an answer
inline constexpr size_t kMostTraceRequests = 5'000'000;     // a day at 58 a second
inline constexpr size_t kMostTraceBytes = size_t{1} << 30;  // unpacked

// "128" or "64-256": evenly drawn, both ends included.
struct TokenRange {
  uint32_t least = 0, most = 0;
};
absl::StatusOr<TokenRange> ParseTokenRange(absl::string_view text);

// Arrivals of a Poisson process; `rate` 0: all due at once, for a closed loop.
std::vector<TraceRequest> DrawRequests(size_t count, double rate, TokenRange input, TokenRange output, uint64_t seed);

// `text` is the content of the file called `name`. In order of arrival. INVALID_ARGUMENT names file and line.
absl::StatusOr<std::vector<TraceRequest>> ParseTrace(absl::string_view text, absl::string_view name);

// The same of a file, which may be packed with gzip. NOT_FOUND where it cannot be read.
absl::StatusOr<std::vector<TraceRequest>> ReadTraceFile(const std::string& path);

// The prompt's ids, drawn from `vocabulary`. REQUIRES: it is not empty.
std::vector<uint32_t> MakePrompt(const TraceRequest& request, const std::vector<uint32_t>& vocabulary, uint64_t seed,
                                 size_t index);

}  // namespace tandem

#endif  // TANDEM_BASE_TRACE_TRACE_H_
