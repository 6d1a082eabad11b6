// Which requests a benchmark sends, and when: drawn from a seed, or read from a trace. Equal arguments, equal workload.
//
// A trace is CSV with a header, or JSON lines; times are milliseconds since its start:
//
//   arrival_ms,input_tokens,output_tokens            further columns are passed over; "client" becomes the tenant
//   {"arrival_ms": 0, "input_tokens": 6758, "output_tokens": 500, "hash_ids": [0, 1, 2]}
//
// hash_ids name the 512-token blocks of a prompt: equal ids at its beginning are equal tokens, so that prefix caches
// have what the trace's had.
#ifndef TANDEM_CLIENT_CTL_BENCH_WORKLOAD_H_
#define TANDEM_CLIENT_CTL_BENCH_WORKLOAD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem::client::ctl {

struct PlannedRequest {
  int64_t due_us = 0;  // since the start; 0 for all of a closed loop
  uint32_t input_tokens = 0;
  uint32_t output_tokens = 0;
  std::string tenant;
  std::vector<uint64_t> blocks;  // of kBlockTokens each; empty: a prompt like no other
};
constexpr uint32_t kBlockTokens = 512;

// "128" or "64-256": evenly drawn, both ends included.
struct TokenRange {
  uint32_t least = 0, most = 0;
};
absl::StatusOr<TokenRange> ParseTokenRange(absl::string_view text);

// Arrivals of a Poisson process; `rate` 0: all due at once, for a closed loop.
std::vector<PlannedRequest> DrawRequests(size_t count, double rate, TokenRange input, TokenRange output, uint64_t seed);

// `text` is the content of the file called `name`. INVALID_ARGUMENT names file and line.
absl::StatusOr<std::vector<PlannedRequest>> ReadTrace(absl::string_view text, absl::string_view name);

// The prompt's ids, drawn from `vocabulary`. REQUIRES: it is not empty.
std::vector<uint32_t> MakePrompt(const PlannedRequest& request, const std::vector<uint32_t>& vocabulary, uint64_t seed,
                                 size_t index);

}  // namespace tandem::client::ctl

#endif  // TANDEM_CLIENT_CTL_BENCH_WORKLOAD_H_
