#include "worker/link_probe.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace tandem::worker {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kSmallFloats = (16 << 10) / sizeof(float);

struct Series {
  size_t floats;
  int warm_up;              // the first ones fault pages in and wake cores
  int most;                 // that are timed
  milliseconds time_limit;  // of all
};
constexpr Series kSmall{kSmallFloats, 20, 1000, milliseconds(150)};
constexpr Series kLarge{kProbeFloats, 1, 7, milliseconds(500)};

// The median time of one message. Both ranks stop after the same one: the first that one of them has enough with.
absl::StatusOr<Clock::duration> Median(Communicator& communicator, ProbeRoad& road, const Series& series,
                                       absl::FunctionRef<absl::Status()> go_on) {
  const Clock::time_point until = Clock::now() + series.time_limit;
  std::vector<Clock::duration> times;
  for (int i = 0; i < series.warm_up + series.most; ++i) {
    if (absl::Status status = go_on(); !status.ok()) {
      communicator.Abort(status.message());
      return status;
    }
    const absl::StatusOr<ProbeRoad::Passage> passage = road.Send(series.floats, Clock::now() >= until);
    if (!passage.ok()) return passage.status();
    // A slow link has its warm-up for a figure rather than none.
    if (i >= series.warm_up || times.empty()) times.push_back(passage->took);
    if (i == series.warm_up && times.size() > 1) times.erase(times.begin());
    if (passage->enough) break;
  }
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  return times[times.size() / 2];
}

int64_t Nanoseconds(Clock::duration d) {
  return std::max<int64_t>(1, std::chrono::duration_cast<std::chrono::nanoseconds>(d).count());
}

}  // namespace

absl::StatusOr<LinkFigures> TimeMessages(Communicator& communicator, ProbeRoad& road,
                                         absl::FunctionRef<absl::Status()> go_on) {
  // Both ends of the road must be there before the first message is timed.
  if (absl::Status status = communicator.Barrier(); !status.ok()) return status;
  absl::StatusOr<Clock::duration> small = Median(communicator, road, kSmall, go_on);
  if (!small.ok()) return small.status();
  absl::StatusOr<Clock::duration> large = Median(communicator, road, kLarge, go_on);
  if (!large.ok()) return large.status();
  const double seconds = static_cast<double>(Nanoseconds(*large)) * 1e-9;
  return LinkFigures{.small_ns = Nanoseconds(*small),
                     .bytes_per_second = static_cast<int64_t>(kProbeFloats * sizeof(float) / seconds)};
}

void LinkProbe::Measure(ProbeOrder order) {
  ProbeReport refusal{order.probe, order.identity.rank, order.peer_uuid, LinkFigures()};
  {
    std::lock_guard lock(mu_);
    if (!stopped_ && !running_) {
      if (thread_.joinable()) thread_.join();  // It has ended, or is about to return.
      running_ = true;
      broken_.clear();
      cancelled_ = false;
      thread_ = std::thread([this, order = std::move(order)] { Run(order); });
      return;
    }
    refusal.figures = absl::FailedPreconditionError(stopped_ ? "this worker stops" : "another probe is under way here");
  }
  options_.report(refusal);
}

void LinkProbe::Break(absl::string_view reason) {
  std::lock_guard lock(mu_);
  if (!running_ || !broken_.empty()) return;
  broken_ = std::string(reason);
  cancelled_ = true;
  if (channel_) channel_->Abort(reason);
}

void LinkProbe::Stop() {
  Break("the worker stops");
  std::thread last;
  {
    std::lock_guard lock(mu_);
    stopped_ = true;
    last = std::move(thread_);
  }
  if (last.joinable()) last.join();
}

void LinkProbe::Run(const ProbeOrder& order) {
  const ProbeReport report{order.probe, order.identity.rank, order.peer_uuid, Attempt(order)};
  {
    std::lock_guard lock(mu_);
    channel_.reset();
    running_ = false;
  }
  options_.report(report);
}

absl::StatusOr<LinkFigures> LinkProbe::Attempt(const ProbeOrder& order) {
  if (order.identity.size != 2) return absl::InvalidArgumentError("a probe has two ranks");
  if (absl::Status status = GoOn(); !status.ok()) return status;
  absl::StatusOr<std::unique_ptr<GroupChannel>> joined = options_.join(order.identity, &cancelled_);
  if (!joined.ok()) {
    absl::Status why = GoOn();
    return why.ok() ? joined.status() : why;
  }
  const std::shared_ptr<GroupChannel> channel = *std::move(joined);
  {
    std::lock_guard lock(mu_);
    channel_ = channel;
    if (!broken_.empty()) channel->Abort(broken_);
  }
  absl::StatusOr<std::unique_ptr<ProbeRoad>> road;
  if (options_.open_road) {
    road = options_.open_road(&channel->communicator(), kProbeFloats);
  } else {
    road = std::make_unique<HostRoad>(&channel->communicator(), kProbeFloats);
  }
  if (!road.ok()) {
    absl::Status why = GoOn();
    channel->Abort(road.status().message());  // or the peer would wait for this end
    return why.ok() ? road.status() : why;
  }
  return TimeMessages(channel->communicator(), **road, [this] { return GoOn(); });
}

absl::Status LinkProbe::GoOn() {
  {
    std::lock_guard lock(mu_);
    if (!broken_.empty()) return absl::CancelledError(broken_);
  }
  const std::string occupied = options_.occupied();
  return occupied.empty() ? absl::OkStatus() : absl::FailedPreconditionError(occupied);
}

}  // namespace tandem::worker
