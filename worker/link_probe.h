// A LinkProbe measures the way between this worker and another of its host: two ranks meet as a group does, time some
// all-reduces, and part. They go over the road that a group of the two would take (probe_road.h): through the host's
// memory between CPU devices, over NCCL from device memory between GPUs.
//
// A probe never stands in the way. It begins only while the engine has nothing to do, has its own thread, takes less
// than a second once the road is there, and Break() ends it within one message. A peer that dies, or breaks off, ends
// it with an error. One at a time; each order is answered by exactly one report, from the probe's thread or the
// caller's.
//
// Any thread may call.
#ifndef TANDEM_WORKER_LINK_PROBE_H_
#define TANDEM_WORKER_LINK_PROBE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/comm/communicator.h"
#include "worker/comm/group_channel.h"
#include "worker/comm/group_identity.h"
#include "worker/probe_road.h"

namespace tandem::worker {

struct LinkFigures {
  int64_t small_ns = 0;          // median of 16 KiB all-reduces
  int64_t bytes_per_second = 0;  // of 32 MB all-reduces of the two: what each sent to the other, over the median time
};

// Of the longest message.
inline constexpr size_t kProbeFloats = 32'000'000 / sizeof(float);

// Both ranks call it, with their ends of a road of two. `go_on` is asked between messages; its error ends the probe on
// both sides, by aborting `communicator`, on which the road stands.
absl::StatusOr<LinkFigures> TimeMessages(Communicator& communicator, ProbeRoad& road,
                                         absl::FunctionRef<absl::Status()> go_on);

struct ProbeOrder {
  uint64_t probe = 0;
  std::string peer_uuid;
  GroupIdentity identity;  // of two; its deadline is that of meeting
};
struct ProbeReport {
  uint64_t probe = 0;
  int rank = 0;
  std::string peer_uuid;
  absl::StatusOr<LinkFigures> figures;
};

class LinkProbe {
 public:
  struct Options {
    // As Engine::Join.
    std::function<absl::StatusOr<std::unique_ptr<GroupChannel>>(const GroupIdentity&,
                                                                const std::atomic<bool>* cancelled)>
        join;
    // The road between the two that met; unset: through the host's memory.
    std::function<absl::StatusOr<std::unique_ptr<ProbeRoad>>(Communicator*, size_t floats)> open_road;
    std::function<std::string()> occupied;  // What the engine does instead of nothing; empty: it is idle.
    std::function<void(const ProbeReport&)> report;
  };

  explicit LinkProbe(Options options) : options_(std::move(options)) {}
  ~LinkProbe() { Stop(); }

  void Measure(ProbeOrder order);
  // Ends the probe under way, if any. Returns at once.
  void Break(absl::string_view reason);
  // Breaks, waits, and refuses all that comes later.
  void Stop();

 private:
  void Run(const ProbeOrder& order);
  absl::StatusOr<LinkFigures> Attempt(const ProbeOrder& order);
  absl::Status GoOn();

  const Options options_;

  std::mutex mu_;
  std::thread thread_;  // Guarded by mu_, as are:
  bool running_ = false;
  bool stopped_ = false;
  std::string broken_;  // Why; empty: go on.
  std::shared_ptr<GroupChannel> channel_;
  std::atomic<bool> cancelled_{false};
};

}  // namespace tandem::worker

#endif  // TANDEM_WORKER_LINK_PROBE_H_
