#include "placement/planner/collective_time.h"

#include <algorithm>

#include "glog/logging.h"
#include "placement/planner/saturating.h"

namespace tandem::placement {
namespace {

// Times in nanoseconds, by protocol.
struct Protocol {
  int64_t base;
  int64_t nvlink, pci, net;  // one hop
};
constexpr Protocol kLl = {6600, 600, 1000, 2700};
constexpr Protocol kLl128 = {14000, 1900, 2500, 4000};
constexpr Protocol kSimple = {8400, 3400, 5700, 14000};

// Our own all-reduce between processes of one machine: bench/results/allreduce_bench.txt has 2.25 us for 4 KiB between
// two ranks, of which the bytes are half a microsecond at the 8 GB/s that 32 MiB reach. The rest is split between the
// call and two handovers. Messages between 16 KiB and 1 MiB reach 2 GB/s there; for them this is too low.
constexpr Protocol kSharedMemory = {750, 500, 500, 500};

int64_t HopNs(const Protocol& protocol, HopClass hop) {
  // A ring over hosts does not say what its hops inside a host are; the slower kind is assumed.
  return hop == HopClass::kNvLink || hop == HopClass::kSharedMemory ? protocol.nvlink : protocol.pci;
}

// LL sends a flag with every eight bytes, so half of the links' bandwidth at best; and its copy loop cannot keep up
// with many NVLinks: NCCL caps it by generation, which comes to 39 GB/s for 80 and to about 37 % for 240 and more.
int64_t LlMbps(int64_t mbps) { return std::max(std::min(mbps / 2, int64_t{39000}), mbps * 37 / 100); }

int64_t Time(const Protocol& protocol, const Ring& ring, int ranks, int64_t bytes, int hosts, int64_t mbps) {
  const int64_t hops = 2 * (ranks - 1), over_network = 2 * (hosts - 1);
  const int64_t latency =
      protocol.base + (hops - over_network) * HopNs(protocol, ring.hop) + over_network * protocol.net;
  // MB/s are bytes per microsecond.
  const __int128 transfer = static_cast<__int128>(bytes) * hops * 1000 / (static_cast<__int128>(ranks) * mbps);
  return SaturatingAdd(latency, Saturated(transfer));
}

}  // namespace

int64_t AllReduceNs(const Ring& ring, int ranks, int64_t bytes, int hosts, int efficiency_permille) {
  CHECK(ranks >= 1 && hosts >= 1 && hosts <= ranks) << ranks << " ranks on " << hosts << " hosts";
  CHECK(bytes >= 0 && efficiency_permille > 0) << bytes << " bytes at " << efficiency_permille;
  if (ranks == 1) return 0;
  const __int128 reached = static_cast<__int128>(ring.mbps) * efficiency_permille / 1000;
  // Nothing moves a petabyte a second; the bound keeps the products below within their type.
  const int64_t mbps = static_cast<int64_t>(std::clamp<__int128>(reached, 1, int64_t{1'000'000'000}));
  if (ring.hop == HopClass::kSharedMemory) return Time(kSharedMemory, ring, ranks, bytes, hosts, mbps);
  int64_t best = std::min(Time(kLl, ring, ranks, bytes, hosts, std::max(int64_t{1}, LlMbps(mbps))),
                          Time(kSimple, ring, ranks, bytes, hosts, mbps));
  if (ring.hop == HopClass::kNvLink) {
    best = std::min(best, Time(kLl128, ring, ranks, bytes, hosts, std::max(int64_t{1}, mbps * 92 / 100)));
  }
  return best;
}

int64_t CommunicationNsPerToken(const Ring& ring, int ranks, const Workload& workload, int hosts) {
  if (ranks == 1) return 0;
  const int64_t batch = std::max(1, workload.decode_batch), chunk = std::max(1, workload.prefill_chunk);
  const int64_t bytes_per_token = int64_t{workload.hidden} * workload.element_bytes;
  const int64_t collectives = 2 * int64_t{workload.layers} + 1;
  const int64_t decode = AllReduceNs(ring, ranks, SaturatingMultiply(batch, bytes_per_token), hosts) / batch;
  // A request's prefill is spread over its output.
  const int64_t prompt = AllReduceNs(ring, ranks, SaturatingMultiply(chunk, bytes_per_token), hosts);
  const __int128 prefill = static_cast<__int128>(prompt) * workload.prompt_tokens / chunk;
  const int64_t share = Saturated(prefill) / std::max(1, workload.output_tokens);
  return SaturatingMultiply(collectives, SaturatingAdd(decode, share));
}

}  // namespace tandem::placement
