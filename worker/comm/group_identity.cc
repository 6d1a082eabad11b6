#include "worker/comm/group_identity.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tandem::worker {
namespace {

constexpr size_t kMaxEndpointBytes = 256;
constexpr absl::Duration kMaxDeadline = absl::Minutes(10);

}  // namespace

std::string GroupEpoch::ToString() const { return absl::StrCat(leader, ".", counter); }

std::string DescribeGroup(uint64_t group_id, GroupEpoch epoch) {
  const uint64_t leader = group_id >> 32;
  const std::string name = absl::StrCat(leader == 0 ? "" : absl::StrCat(leader, "."), group_id & 0xffffffff);
  return absl::StrCat("group ", name, " epoch ", epoch.ToString());
}

std::string GroupIdentity::ToString() const { return DescribeGroup(group_id, epoch); }

absl::Status GroupIdentity::Validate() const {
  if (size < 1 || size > kMaxRanks) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: size is %d, a group of one host has 1 to %d ranks", ToString(), size, kMaxRanks));
  }
  if (rank < 0 || rank >= size) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: rank %d of %d does not exist", ToString(), rank, size));
  }
  if (endpoints.size() != static_cast<size_t>(size)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %d endpoints for %d ranks, one each is needed", ToString(), endpoints.size(), size));
  }
  for (size_t i = 0; i < endpoints.size(); ++i) {
    if (endpoints[i].empty() || endpoints[i].size() > kMaxEndpointBytes) {
      return absl::InvalidArgumentError(absl::StrFormat("%s: endpoint of rank %d has %d bytes, 1 to %d are allowed",
                                                        ToString(), i, endpoints[i].size(), kMaxEndpointBytes));
    }
  }
  if (deadline <= absl::ZeroDuration() || deadline > kMaxDeadline) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: deadline is %s, it must be above 0 and at most %s",
                                                      ToString(), absl::FormatDuration(deadline),
                                                      absl::FormatDuration(kMaxDeadline)));
  }
  return absl::OkStatus();
}

bool SecretsEqual(const std::array<uint8_t, 16>& a, const std::array<uint8_t, 16>& b) {
  // Volatile keeps the compiler from leaving the loop early.
  volatile uint8_t difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference = difference | (a[i] ^ b[i]);
  return difference == 0;
}

}  // namespace tandem::worker
