#include "simulate/baseline_router.h"

#include <variant>

#include "absl/strings/str_cat.h"
#include "simulate/sim_group.h"

namespace tandem::simulate {

void BaselineRouter::Arrive(int64_t, const Arrival& arrival, Decisions& out) {
  out.sent.push_back({arrival.request, policy_->Choose(arrival), {1, 1}});
}

void BaselineRouter::Hear(int64_t, uint32_t group, const worker::RequestUpdate& update, Decisions& out) {
  const uint32_t request = RequestOf(update.id);
  if (const auto* produced = std::get_if<worker::Produced>(&update.what); produced && produced->first_index == 0) {
    policy_->FirstToken(group, request);
  } else if (const auto* ended = std::get_if<worker::Ended>(&update.what)) {
    policy_->Ended(group, request);
    if (ended->how == worker::Ended::How::kRefused) out.refused.push_back({request, "NEVER_FITS"});
  }
}

void BaselineRouter::CacheChanged(int64_t, uint32_t group, const worker::BlockAllocator::Changes& changes, Decisions&) {
  policy_->CacheChanged(group, changes);
}

}  // namespace tandem::simulate
