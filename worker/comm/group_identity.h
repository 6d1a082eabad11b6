// Who a group is, and how one rank of it proves that it belongs.
#ifndef TANDEM_WORKER_COMM_GROUP_IDENTITY_H_
#define TANDEM_WORKER_COMM_GROUP_IDENTITY_H_

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace tandem::worker {

// A group of one host has at most this many ranks; masks of ranks are 32-bit words.
inline constexpr int kMaxRanks = 16;

// Grows each time the group forms anew. `leader` grows with every start of the scheduler, `counter` within one start.
struct GroupEpoch {
  uint64_t leader = 0;
  uint32_t counter = 0;

  friend auto operator<=>(const GroupEpoch&, const GroupEpoch&) = default;
  std::string ToString() const;  // "3.17"
};

// "group 3.7 epoch 3.7", as the scheduler names it: an id is the leader's epoch above 32 bits and a count below.
std::string DescribeGroup(uint64_t group_id, GroupEpoch epoch);

// Equal on every rank, except `rank`.
struct GroupIdentity {
  uint64_t group_id = 0;
  GroupEpoch epoch;
  int rank = 0;
  int size = 1;
  std::array<uint8_t, 16> secret{};    // Never logged.
  std::vector<std::string> endpoints;  // One per rank, as Rendezvous::endpoint() gave them.
  absl::Duration deadline = absl::Seconds(10);

  std::string ToString() const;  // "group 7 epoch 3.17"

  // INVALID_ARGUMENT naming the field, where a field is out of range.
  absl::Status Validate() const;
};

// Takes the same time wherever the two differ.
bool SecretsEqual(const std::array<uint8_t, 16>& a, const std::array<uint8_t, 16>& b);

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_COMM_GROUP_IDENTITY_H_
