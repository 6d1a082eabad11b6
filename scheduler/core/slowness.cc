#include "scheduler/core/slowness.h"

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/core/booking.h"
#include "scheduler/core/prefetch.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

constexpr Duration kLookEvery = Seconds(1);
constexpr int kLooks = 3;
constexpr int64_t kSlow = 2500;       // permille of the median: from here on a group is slow
constexpr int64_t kRecovered = 1500;  // and below this no more
constexpr int64_t kSlowest = 20000;   // slower ones are weighed like this: they get a little, which shows recovery
constexpr int64_t kMemory = 64;       // looks
constexpr int64_t kHandicap = 10000;  // millionths of its KV that an empty slow group is taken to have booked

struct Pulse {
  Group* group;
  int64_t step_us;
  int64_t token_ns;
};
using Kind = std::tuple<size_t, std::string, std::string>;  // degree, kind and model of the device

// The lower one of two, so that of a pair the slow one stands out.
int64_t Median(const std::vector<Pulse>& pulses, int64_t Pulse::*figure) {
  std::vector<int64_t> figures;
  for (const Pulse& pulse : pulses) figures.push_back(pulse.*figure);
  const auto middle = figures.begin() + static_cast<int64_t>((figures.size() - 1) / 2);
  std::nth_element(figures.begin(), middle, figures.end());
  return std::max<int64_t>(1, *middle);
}

void Judge(ClusterState& state, Group& group, int64_t ratio, size_t peers, Actions& out) {
  const bool slow = group.slowness > 1000;
  const bool agrees = slow ? ratio >= kRecovered : ratio < kSlow;
  group.slow_looks = agrees ? 0 : group.slow_looks + 1;
  if (slow && agrees) {
    group.slowness = std::clamp(ratio, kRecovered, kSlowest);  // it may get worse, or better by half
  } else if (group.slow_looks >= kLooks) {
    group.slow_looks = 0;
    group.slowness = slow ? 1000 : std::min(ratio, kSlowest);
    out.push_back(
        Tell{Name(group.id), slow ? "as fast as its peers again"
                                  : absl::StrCat("slow: its steps take ", TimesSlower(group), " the median of ",
                                                 Count(static_cast<int64_t>(peers), "like group"), " on ",
                                                 List(state, DevicesOf(group)), "; it gets that much less work")});
  } else {
    return;
  }
  if (Reindex(state, group)) state.helped.insert(group.model);
}

void Compare(ClusterState& state, Model& model, Actions& out) {
  std::vector<Group*> groups;
  groups.reserve(model.groups.size());
  for (GroupId id : model.groups) Prefetch(groups.emplace_back(state.Find(id)), kCacheLine);
  std::map<Kind, std::vector<Pulse>> kinds;
  int64_t fastest_ns = 0;
  model.any_slow = false;
  model.least_step_us = 0;
  for (Group* const there : groups) {
    Group& group = *there;
    model.any_slow |= group.weight > 1000;
    const int64_t least = model.least_step_us == 0 ? group.step_us : std::min(model.least_step_us, group.step_us);
    if (group.step_us > 0) model.least_step_us = least;
    const bool stepped = group.steps != group.steps_compared;
    group.steps_compared = group.steps;
    if (!stepped || group.state != GroupState::kReady || group.step_us <= 0 || group.step_tokens <= 0) continue;
    const DeviceSpec& spec = state.At(group.Rank0()).spec;
    const int64_t token_ns = group.step_us * 1000 / group.step_tokens;
    kinds[{group.members.size(), spec.kind, spec.model}].push_back({&group, group.step_us, token_ns});
    fastest_ns = fastest_ns == 0 ? token_ns : std::min(fastest_ns, token_ns);
  }
  if (fastest_ns > 0) {
    // Steps with prompts in them are the fastest by token. When there are none for a while, their time is kept for
    // about a minute.
    const bool faster = model.token_ns == 0 || fastest_ns <= model.token_ns;
    model.token_ns = faster ? fastest_ns : model.token_ns + (fastest_ns - model.token_ns) / kMemory;
  }
  for (const auto& [kind, pulses] : kinds) {
    if (pulses.size() < 2) continue;
    const int64_t step = Median(pulses, &Pulse::step_us), token = Median(pulses, &Pulse::token_ns);
    for (const Pulse& pulse : pulses) {
      const int64_t ratio = std::min(pulse.step_us * 1000 / step, pulse.token_ns * 1000 / token);
      Judge(state, *pulse.group, ratio, pulses.size(), out);
    }
  }
}

}  // namespace

void TakeStepTime(ClusterState& state, Group& group, const GroupLoad& load, Actions& out) {
  constexpr int64_t kMost = int64_t{1} << 40;  // of another process: within what can be multiplied
  group.step_us = std::clamp<int64_t>(load.step_us, 0, kMost);
  group.step_tokens = std::clamp<int64_t>(load.step_tokens, 0, kMost);
  Model& model = state.At(group.model);
  if (state.now < model.next_compare) return;
  model.next_compare = state.now + kLookEvery;
  Compare(state, model, out);
}

int64_t SlownessOf(const ClusterState& state, const Group& group) {
  int64_t slowness = group.slowness;
  for (const Member& member : group.members) {
    slowness = std::max(slowness, int64_t{1000} * state.At(member.device).times_slower);
  }
  return slowness;
}

int64_t WeighedShare(int64_t slowness, int64_t share) {
  return slowness <= 1000 ? share : (share + kHandicap) * slowness / 1000;
}

std::string TimesSlower(const Group& group) {
  return absl::StrCat(group.slowness / 1000, ".", group.slowness % 1000 / 100, " times");
}

}  // namespace tandem::core
