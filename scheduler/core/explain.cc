// Explain: the decisions of the core as sentences. Reads the state, changes nothing.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "scheduler/core/assignment.h"
#include "scheduler/core/core.h"
#include "scheduler/core/health.h"
#include "scheduler/core/memory_ledger.h"
#include "scheduler/core/pool.h"
#include "scheduler/core/rebalance.h"
#include "scheduler/core/slowness.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

using Lines = std::vector<std::string>;

constexpr size_t kMostGroupsTold = 64;  // of a model: more nobody reads, and the core decides nothing meanwhile

std::string Line(const ClusterState& state, const Request& request, const Moment& moment) {
  const std::string when = absl::StrCat("+", Words(moment.at - request.arrived), " ");
  const std::string on = moment.group.value != 0 ? absl::StrCat(" on ", Name(moment.group)) : "";
  switch (moment.kind) {
    case MomentKind::kArrived:
      return absl::StrCat(when, "arrived for ", Name(state.At(request.model)), " with ", moment.number,
                          " prompt tokens");
    case MomentKind::kQueued:
      return absl::StrCat(when, "had to wait");
    case MomentKind::kCached:
      return absl::StrCat(when, "the first ", moment.number, " prompt tokens are in the cache", on);
    case MomentKind::kAssigned:
      return absl::StrCat(when, "assigned", on, ", ", moment.number, " tokens of KV booked");
    case MomentKind::kStarted:
      return absl::StrCat(when, "started", on, ", ", moment.number, " prompt tokens cached");
    case MomentKind::kPreempted:
      return absl::StrCat(when, "preempted", on, ", to be computed again");
    case MomentKind::kRequeued:
      return absl::StrCat(when, "back in the queue: it had not started");
    case MomentKind::kMigrating:
      return absl::StrCat(when, "left", moment.group.value != 0 ? absl::StrCat(" ", Name(moment.group)) : "",
                          " unfinished, to go on elsewhere; move ", moment.number);
    case MomentKind::kStopped:
      return absl::StrCat(when, "a stop string after ", moment.number, " tokens");
    case MomentKind::kAborting:
      return absl::StrCat(when, "told", on, " to stop");
    case MomentKind::kFinished:
      return absl::StrCat(when, "finished with ", moment.number, " tokens");
    case MomentKind::kFailed:
      return absl::StrCat(when, "failed");
    case MomentKind::kCancelled:
      return absl::StrCat(when, "cancelled");
    case MomentKind::kFound:
      return absl::StrCat(when, "found", on, " after a restart of the scheduler, with ", moment.number, " tokens");
  }
  return when;
}

std::string Summary(const ClusterState& state, const Request& request) {
  const std::string subject = Name(request.id);
  switch (request.state) {
    case RequestState::kQueued:
      return absl::StrCat(subject, " waits as number ", state.QueuePosition(request), ": ", WhyWaiting(state, request));
    case RequestState::kMigrating:
      return absl::StrCat(subject, " waits to go on elsewhere, as number ", state.QueuePosition(request), ": ",
                          WhyWaiting(state, request));
    case RequestState::kAssigned:
    case RequestState::kRunning:
      return absl::StrCat(subject, " is ", Words(request.state), " on ", Name(request.group));
    case RequestState::kFinished:
      return absl::StrCat(subject, " finished with ", request.output.value, " tokens");
    case RequestState::kFailed:
      return absl::StrCat(subject, " failed: ", Words(request.outcome), ": ", request.outcome_text);
    case RequestState::kCancelled:
      return absl::StrCat(subject, " was cancelled: ", request.outcome_text);
  }
  return subject;
}

// How many of `all` are told, of a model that may have thousands; and the line that says of the others that they are.
size_t Told(const std::vector<GroupId>& all) { return std::min(all.size(), kMostGroupsTold); }
void AddUntold(const std::vector<GroupId>& all, Lines& lines) {
  if (all.size() > kMostGroupsTold) {
    lines.push_back(absl::StrCat("and ", Count(static_cast<int64_t>(all.size() - kMostGroupsTold), "group"), " more"));
  }
}

// The queue and the other groups, from the point of view of a request.
void AddAlternatives(const ClusterState& state, const Request& request, Lines& lines) {
  const std::vector<GroupId>& groups = state.At(request.model).groups;
  const auto add = [&](GroupId id) {
    const Group& group = *state.Find(id);
    lines.push_back(absl::StrCat(Name(id), " ", Words(group.state), ": ", group.kv.Load().value, " of ",
                                 group.kv.limit.value, " tokens booked, ", group.requests.size(), " of ",
                                 group.max_sequences + state.options.engine_queue, " places taken",
                                 id == request.group ? " (this one)" : ""));
  };
  for (size_t i = 0; i < Told(groups); ++i) add(groups[i]);
  const auto own = std::find(groups.begin() + static_cast<std::ptrdiff_t>(Told(groups)), groups.end(), request.group);
  if (own != groups.end()) add(*own);
  AddUntold(groups, lines);
}

void AddAccount(const ClusterState& state, const Group& group, Lines& lines) {
  if (group.ready_at == kNever) return;
  lines.push_back(absl::StrCat("KV: ", group.kv_blocks, " blocks of ", group.block_tokens, " tokens, ",
                               group.free_blocks, " free by rank 0's word; ", group.kv.Booked().value,
                               " tokens booked, ", group.kv.correction.value, " used beyond that, limit ",
                               group.kv.limit.value));
  lines.push_back(absl::StrCat("requests: ", group.requests.size(), " here (", group.running, " running and ",
                               group.waiting, " waiting in the engine), at most ", group.max_sequences, " + ",
                               state.options.engine_queue));
}

void AddReport(const ClusterState& state, const PlacementReport& report, Lines& lines) {
  if (report.verdict == Verdict::kNotTried) return;
  lines.push_back(absl::StrCat("placement, ", Words(state.now - report.at), " ago: ", report.sentence));
  for (const std::string& degree : report.degrees) lines.push_back(degree);
  Lines fallen;
  for (int i = 0; i < kObstacles; ++i) {
    if (report.counts[i] > 0) fallen.push_back(absl::StrCat(report.counts[i], " ", Describe(static_cast<Obstacle>(i))));
  }
  if (!fallen.empty())
    lines.push_back(absl::StrCat("of ", report.considered, " devices fell out: ", absl::StrJoin(fallen, ", ")));
  for (const Loser& loser : report.losers) lines.push_back(absl::StrCat("not ", loser.text));
}

}  // namespace

absl::StatusOr<Lines> Core::ExplainRequest(RequestId id) const {
  const Request* request = state_.Find(id);
  if (request == nullptr) return absl::NotFoundError(absl::StrCat(Name(id), " is not known, or ended too long ago"));
  Lines lines = {Summary(state_, *request)};
  const bool over = request->told;
  if (!over) AddAlternatives(state_, *request, lines);
  if (request->HoldsBooking() && over) {
    lines.push_back(absl::StrCat("its ", request->booked.value, " tokens on ", Name(request->group),
                                 " are booked until the engine says that it stopped"));
  }
  lines.push_back(absl::StrCat("prompt ", request->prompt.value, " tokens, at most ", request->max_tokens.value,
                               " output; priority ", request->priority, "; preempted ", request->preemptions,
                               " times; attempt ", request->attempt.counter));
  if (!request->caller_id.empty() || !request->trace_id.empty()) {
    lines.push_back(absl::StrCat("its caller knows it as ", request->caller_id.empty() ? "nothing" : request->caller_id,
                                 request->trace_id.empty() ? "" : ", in trace ", request->trace_id));
  }
  if (!request->moved_why.empty()) {
    lines.push_back(absl::StrCat("moved ", request->migrations, " of at most ", state_.options.most_migrations,
                                 " times; the last because ", request->moved_why));
  }
  for (const Moment& moment : request->history) lines.push_back(Line(state_, *request, moment));
  return lines;
}

absl::StatusOr<Lines> Core::ExplainGroup(GroupId id) const {
  const Group* group = state_.Find(id);
  if (group == nullptr)
    return absl::NotFoundError(absl::StrCat(Name(id), " is not known, or was dissolved too long ago"));
  Lines lines = {absl::StrCat(Name(id), " is ", Words(group->state), " for ", Name(state_.At(group->model)),
                              group->reason.empty() ? "" : ": ", group->reason)};
  lines.push_back(absl::StrCat("placed: ", group->why));
  for (size_t rank = 0; rank < group->members.size(); ++rank) {
    const Member& member = group->members[rank];
    const char* stage = member.out ? "out" : member.loaded ? "loaded" : member.formed ? "formed" : "asked";
    lines.push_back(absl::StrCat("rank ", rank, ": ", Name(state_, member.device), ", ", stage, ", ",
                                 EstimateAgainstMeasurement(member.estimated, member.measured)));
  }
  lines.push_back("a worker that exits ends the whole group: each rank holds a slice of every layer");
  if (state_.move.UnderWay() && (state_.move.from == id || state_.move.to == id)) {
    lines.push_back(ExplainMove(state_, state_.At(group->model)));
  }
  AddAccount(state_, *group, lines);
  for (const Member& member : group->members) {
    for (std::string& line : DescribeHealth(state_, state_.At(member.device))) {
      lines.push_back(absl::StrCat(Name(state_, member.device), " ", line));
    }
  }
  if (group->slowness > 1000) {
    lines.push_back(absl::StrCat("slow: its steps take ", TimesSlower(*group),
                                 " the median of its peers, so it counts as that much fuller"));
  }
  return lines;
}

absl::StatusOr<Lines> Core::ExplainModel(absl::string_view name) const {
  const Model* model = state_.FindModel(name);
  if (model == nullptr) return absl::NotFoundError(absl::StrCat("no model named '", name, "'"));
  const int ready = state_.ReadyReplicas(*model);
  Lines lines = {absl::StrCat(Name(*model), ": ", ready, " of ", Count(state_.Wanted(*model), "replica"), " ready",
                              model->waits_for.empty() ? "" : "; ", model->waits_for)};
  if (std::string pool = ExplainPool(state_, *model); !pool.empty()) lines.push_back(std::move(pool));
  if (model->refused != Reason::kNone && !state_.IsServed(*model)) {
    lines.push_back(absl::StrCat("requests are refused: ", Words(model->refused), ": ", model->refused_why));
  }
  for (size_t i = 0; i < Told(model->groups); ++i) {
    const Group& group = *state_.Find(model->groups[i]);
    lines.push_back(absl::StrCat(Name(group.id), " ", Words(group.state), " on ", List(state_, DevicesOf(group), 8),
                                 group.outdated ? ", in an earlier shape" : ""));
  }
  AddUntold(model->groups, lines);
  lines.push_back(absl::StrCat(Count(static_cast<int64_t>(model->queue.size()), "request"),
                               " waiting; outputs of 9 in 10 requests end within ",
                               model->outputs.P90(state_.options.default_output).value, " tokens"));
  for (const LearnedMemory& learned : model->learned) lines.push_back(DescribeLearned(learned));
  if (std::string move = ExplainMove(state_, *model); !move.empty()) lines.push_back(std::move(move));
  AddReport(state_, model->report, lines);
  return lines;
}

}  // namespace tandem::core
