#include "scheduler/core/rollout.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "scheduler/core/check.h"
#include "scheduler/core/drain.h"
#include "scheduler/core/group.h"
#include "scheduler/core/placement.h"
#include "scheduler/core/planning.h"
#include "scheduler/core/pool.h"
#include "scheduler/core/request_life.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

std::string Because(const std::string& reason) { return reason.empty() ? "" : absl::StrCat(": ", reason); }

std::string Replicas(const ModelSpec& spec) {
  if (spec.replicas_min == spec.replicas_max) return Count(spec.replicas_min, "replica");
  return absl::StrCat(spec.replicas_min, " to ", spec.replicas_max, " replicas");
}

std::string Shape(const ModelSpec& spec) {
  return absl::StrCat(Replicas(spec),
                      " of tp=", spec.tensor_parallel == 0 ? "auto" : absl::StrCat(spec.tensor_parallel));
}

void Touch(ClusterState& state, const Model& model) {
  state.place_wanted = true;
  state.drains_touched = true;
  state.helped.insert(model.id);
}

// What it lacked, it may have now.
void Unblock(Model& model) {
  model.blocked = false;
  model.refused = Reason::kNone;
  model.refused_why.clear();
  model.back_off = {};
  model.retry_at = kNever;
}

// Requests that wait and were checked against a longer context.
void FailTooLong(ClusterState& state, Model& model, Actions& out) {
  std::vector<Serial> waiting;
  model.queue.ForEach([&](Serial serial, const WaitingLine::Size&) { waiting.push_back(serial); });
  std::sort(waiting.begin(), waiting.end());
  for (Serial serial : waiting) {
    Request& request = state.At(serial);
    const Tokens whole = request.prompt + request.max_tokens;
    if (whole.value <= model.spec.max_model_len) continue;
    Fail(state, request, Reason::kContextLengthExceeded,
         absl::StrCat(Name(model), " was deployed with a context of ", model.spec.max_model_len,
                      " tokens while this request waited; it needs ", whole.value),
         out);
  }
}

// What serves takes nothing new and ends its requests; what does not serve yet ends.
void Close(ClusterState& state, Group& group, const std::string& why, Actions& out) {
  if (!group.Serves()) return;
  if (group.state != GroupState::kReady) return AbortNow(state, group, Reason::kDraining, why, out);
  group.retiring = true;
  StopAdmitting(state, group, why, out);
  state.drains_touched = true;
}

// Outdated groups that take requests, the least booked first. Those that a drain wants gone are its business.
std::vector<Group*> Open(ClusterState& state, const Model& model) {
  std::vector<Group*> open;
  for (GroupId id : model.groups) {
    Group* group = state.Find(id);
    if (group->outdated && !group->leaving && group->Serves()) open.push_back(group);
  }
  std::sort(open.begin(), open.end(), [](const Group* a, const Group* b) {
    return std::pair(a->kv.Load(), a->id) < std::pair(b->kv.Load(), b->id);
  });
  return open;
}

// The one whose going makes room for a new group; null: none of them would, or one is on its way out already.
Group* MakesRoom(const ClusterState& state, const Model& model, const std::vector<Group*>& open) {
  if (model.blocked || state.load_awaited || WaitsToRetry(state, model)) return nullptr;
  std::vector<GroupId> gone;
  for (GroupId id : model.groups) {
    const Group& group = *state.Find(id);
    if (group.retiring || group.ending != Ending::kNo) return nullptr;
    if (group.outdated) gone.push_back(id);
  }
  if (!WouldFit(state, model, gone)) return nullptr;
  constexpr size_t kMostTrials = 8;  // replicas of one model are mostly alike
  for (size_t i = 0; i < std::min(open.size(), kMostTrials); ++i) {
    if (WouldFit(state, model, {open[i]->id})) return open[i];
  }
  return open.front();
}

void UpdateRollout(ClusterState& state, Model& model, Actions& out) {
  const std::vector<Group*> open = Open(state, model);
  if (open.empty()) return;
  int ready = 0, coming = 0;
  for (GroupId id : model.groups) {
    const Group& group = *state.Find(id);
    if (group.CountsAsReplica()) ++(group.state == GroupState::kReady ? ready : coming);
  }
  const size_t missing = static_cast<size_t>(std::max(0, state.Wanted(model) - ready));
  const size_t keep = ready > 0 ? std::min(open.size(), missing) : open.size();
  for (size_t i = 0; i + keep < open.size(); ++i) {
    Close(state, *open[i], absl::StrCat(Name(model), " serves in its new shape"), out);
  }
  if (keep < open.size() || coming > 0 || missing == 0) return;
  if (Group* group = MakesRoom(state, model, open)) {
    Close(state, *group, absl::StrCat("it makes room for the new shape of ", Name(model)), out);
  }
}

}  // namespace

std::string DeploymentOf(const ModelSpec& spec) {
  return absl::StrCat(spec.revision, " dtype=", spec.dtype, " context=", spec.max_model_len,
                      " sequences=", spec.max_sequences, " batch=", spec.max_batch_tokens, " kv=", spec.kv_most.value);
}

bool SameWeights(const std::string& deployment, const ModelSpec& spec) {
  return deployment.empty() || absl::StartsWith(deployment, absl::StrCat(spec.revision, " "));
}

bool IsOutdated(const ClusterState& state, const Group& group) {
  const ModelSpec& spec = state.At(group.model).spec;
  if (spec.tensor_parallel != 0 && spec.tensor_parallel != static_cast<int>(group.members.size())) return true;
  return !group.deployment.empty() && group.deployment != DeploymentOf(spec);
}

bool IsRolling(const ClusterState& state, const Model& model) {
  return std::any_of(model.groups.begin(), model.groups.end(), [&](GroupId id) { return state.Find(id)->outdated; });
}

Model& AddModel(ClusterState& state, const ModelSpec& spec) {
  const ModelId id{static_cast<uint32_t>(state.models.size())};
  Model& model = state.models.emplace_back();
  model.id = id;
  model.spec = spec;
  model.waits_for = absl::StrCat(Name(model), " has not been placed yet");
  state.NameModel(model);  // the shell made sure that its names are free
  state.place_wanted = true;
  return model;
}

void Handle(ClusterState& state, const DeployRequested& event, Actions& out) {
  CORE_CHECK(event.model.value <= state.models.size(), "model ", event.model.value, " of ", state.models.size());
  if (event.model.value == state.models.size()) {
    const Model& model = AddModel(state, event.spec);
    out.push_back(Tell{Name(model), absl::StrCat("deployed as ", Shape(model.spec), Because(event.reason))});
    return;
  }
  Model& model = state.At(event.model);
  CORE_CHECK(!model.undeployed && model.spec.name == event.spec.name, "model ", event.model.value);
  state.UnnameModel(model);
  model.spec = event.spec;
  state.NameModel(model);
  Unblock(model);
  out.push_back(Tell{Name(model), absl::StrCat("deployed as ", Shape(model.spec), Because(event.reason))});
  FailTooLong(state, model, out);
  const std::vector<GroupId> groups = model.groups;
  for (GroupId id : groups) {
    Group& group = *state.Find(id);
    const bool outdated = IsOutdated(state, group);
    if (std::exchange(group.outdated, outdated) == outdated || !group.Serves()) continue;
    if (!outdated) {
      out.push_back(Tell{Name(id), absl::StrCat("stays: ", Name(model), " has its shape again")});
    } else if (group.state != GroupState::kReady) {
      Close(state, group, absl::StrCat(Name(model), " was deployed in another shape"), out);
    } else {
      out.push_back(Tell{Name(id), absl::StrCat("serves until ", Name(model), " does in its new shape")});
    }
  }
  RetireSurplus(state, model, "it was deployed with fewer replicas", out);
  Touch(state, model);
}

void Handle(ClusterState& state, const UndeployRequested& event, Actions& out) {
  Model& model = state.At(event.model);
  if (std::exchange(model.undeployed, true)) return;
  state.UnnameModel(model);
  Unblock(model);
  model.spec.replicas_min = model.spec.replicas_max = 0;
  model.pool = {};
  const std::string why = absl::StrCat(Name(model), " was undeployed", Because(event.reason));
  model.refused = Reason::kModelNotFound;
  model.refused_why = why;
  model.waits_for.clear();
  out.push_back(Tell{Name(model), absl::StrCat("undeployed", Because(event.reason))});
  const std::vector<GroupId> groups = model.groups;
  for (GroupId id : groups) Close(state, *state.Find(id), why, out);
  FailQueue(state, model, Reason::kModelNotFound, why, out);
  Touch(state, model);
}

void Handle(ClusterState& state, const ScaleRequested& event, Actions& out) {
  Model& model = state.At(event.model);
  if (model.undeployed) return;
  model.spec.replicas_min = event.replicas_min;
  model.spec.replicas_max = event.replicas_max;
  model.pool.quiet_since = kNever;
  out.push_back(Tell{Name(model), absl::StrCat("scaled to ", Replicas(model.spec), Because(event.reason))});
  RetireSurplus(state, model, "it was scaled down", out);
  Touch(state, model);
}

void UpdateRollouts(ClusterState& state, Actions& out) {
  if (!state.settled) return;
  for (Model& model : state.models) {
    if (!model.groups.empty()) UpdateRollout(state, model, out);
  }
}

}  // namespace tandem::core
