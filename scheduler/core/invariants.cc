#include "scheduler/core/invariants.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/prefix_landmarks.h"
#include "scheduler/core/booking.h"
#include "scheduler/core/drain.h"
#include "scheduler/core/health.h"
#include "scheduler/core/kept.h"
#include "scheduler/core/pool.h"
#include "scheduler/core/rebalance.h"
#include "scheduler/core/rollout.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

class Checker {
 public:
  explicit Checker(const ClusterState& state) : state_(state) {}

  std::vector<std::string> Run() {
    Devices();
    Groups();
    Models();
    Requests();
    Drains();
    Links();
    Pools();
    Moves();
    Timers();
    Scratch();
    return std::move(violations_);
  }

 private:
  template <typename... Parts>
  void Hold(bool condition, const Parts&... parts) {
    if (!condition) violations_.push_back(absl::StrCat(parts...));
  }
  const Group* Live(GroupId id) const {
    const auto it = state_.groups.find(id);
    return it == state_.groups.end() ? nullptr : &it->second;
  }

  void Devices() {
    for (const Device& device : state_.devices) {
      const std::string name = device.spec.Name();
      Hold(device.groups.size() <= 1 || state_.options.sharing, name, " is in ", device.groups.size(), " groups");
      int of_several_ranks = 0;
      Bytes least;
      for (GroupId id : device.groups) {
        const Group* group = Live(id);
        Hold(group != nullptr, name, " is in ", Name(id), ", which is not there");
        if (group == nullptr) continue;
        of_several_ranks += group->members.size() > 1;
        for (const Member& m : group->members) {
          if (m.device == device.id && !group->adopted) least += m.planned + group->kv_min;
        }
        const auto in = std::count_if(group->members.begin(), group->members.end(),
                                      [&](const Member& m) { return m.device == device.id && !m.out; });
        Hold(in == 1, name, " is ", in, " members of ", Name(id));
      }
      const bool works = std::any_of(device.groups.begin(), device.groups.end(),
                                     [&](GroupId id) { return Live(id) != nullptr && !Live(id)->requests.empty(); });
      Hold(device.idle_load == 0 || !works, name, " has work and its heartbeats are not read");
      Hold(of_several_ranks <= 1, name, " is in ", of_several_ranks, " groups of several ranks");
      Hold(least <= device.spec.memory_budget, name, " has ", least.value, " bytes promised, its budget is ",
           device.spec.memory_budget.value);
      Hold(!device.attached || device.state != DeviceState::kLost, name, " is attached and LOST");
      Hold(device.state != DeviceState::kLost || device.groups.empty(), name, " is LOST and in a group");
      Hold(device.state != DeviceState::kDrained || (device.Free() && device.parked), name,
           " is DRAINED and not empty");
      Hold(!device.parked || device.Free(), name, " is parked and not free");
      Hold(!device.parking || device.Free(), name, " parks and is not free");
      Hold(!device.parking || device.leave_deadline != kNever, name, " may park for ever");
      const bool idle = device.attached && device.Free() && !device.parked && !device.parking;
      Hold(!device.drain_wanted || !state_.settled || !idle, name, " is drained and free, and was not told to park");
      Hold(!device.drain_wanted || device.cordoned, name, " drains and is not cordoned");
      Hold(device.Quarantined() == (device.quarantined_until != kNever), name, " may stay in quarantine for ever");
      for (GroupId id : device.groups) {
        Hold(!device.Quarantined() || Live(id) == nullptr || Live(id)->adopted ||
                 Live(id)->created <= device.quarantined_at,
             name, " is in quarantine and was given ", Name(id));
      }
      for (const std::string& wrong : CheckHealth(state_, device)) Hold(false, name, wrong);
      Hold(device.kept == Known(device) || (device.recalled && device.kept == KnownDevice{} && !device.kept.HasWish()),
           name, " is not kept as it is");
      Hold(device.claims >= 0 && (device.claims == 0 || !state_.settled), name, " claims ", device.claims, " groups");
      Hold(!device.recalled || !device.attached, name, " was seen and is still recalled");
      Hold(!device.attached || device.timer != kNever, name, " is attached and not watched");
      Hold(device.leftovers.empty() || device.leave_deadline != kNever, name, " may keep its leftovers for ever");
    }
  }

  void Groups() {
    std::set<GroupEpoch> epochs;
    for (const auto& [id, group] : state_.groups) {
      const std::string name = Name(id);
      Hold(state_.Find(id) == &group, name, " is not indexed");
      Hold(epochs.insert(group.epoch).second, name, " shares its epoch");
      const GroupEpoch newest{state_.leader_epoch, state_.last_group};
      Hold(group.adopted || group.epoch <= newest, name, " has an epoch that was never given");
      Hold(group.state != GroupState::kDissolved, name, " is dissolved and lives");
      Members(name, group);
      Account(name, group);
      const Model& model = state_.At(group.model);
      Hold(!group.InService() || group.outdated == IsOutdated(state_, group), name, " outdated=", group.outdated,
           ", and its model says otherwise");
      Hold(!group.outdated || !group.Serves() || group.state == GroupState::kReady, name, " forms in an old shape");
      Hold(!model.undeployed || !group.Serves(), name, " serves a model that was undeployed");
      Hold(std::count(model.groups.begin(), model.groups.end(), id) == 1, name, " is not in the list of its model");
      Hold(model.by_share.contains({group.share_key, id}) == group.indexed, name, " is wrong in by_share");
      Hold(!group.indexed || group.kv.limit <= model.most_limit, name, " is larger than the largest");
      Hold(!group.indexed || group.weight <= 1000 || model.any_slow, name, " is slow and its model does not know");
      Hold(group.state != GroupState::kReady || !group.InService() || group.reachable == IsReachable(state_, group),
           name, " reachable=", group.reachable, ", and its devices say otherwise");
      const bool may_serve = group.state == GroupState::kReady && group.ending == Ending::kNo;
      Hold(!group.indexed || may_serve, name, " admits requests and is ", Words(group.state));
      Hold(group.requests.empty() || group.ending == Ending::kNo, name, " ends and still has requests");
      const bool waits =
          group.state == GroupState::kForming || group.state == GroupState::kLoading || group.ending != Ending::kNo;
      Hold(!waits || group.deadline != kNever, name, " may wait for ever");
    }
  }

  void Members(const std::string& name, const Group& group) {
    std::set<DeviceId> devices;
    bool any_inside = false;
    for (const Member& member : group.members) {
      Hold(devices.insert(member.device).second, name, " has a device twice");
      const Device& device = state_.At(member.device);
      const bool listed = std::find(device.groups.begin(), device.groups.end(), group.id) != device.groups.end();
      Hold(member.counted || !member.loaded || member.out || device.uncounted, name, " has loaded on ",
           device.spec.Name(), " and is never counted");
      Hold(listed == !member.out, name, " and ", device.spec.Name(), " do not agree");
      any_inside |= !member.out;
      Hold(!member.out || group.ending != Ending::kNo, name, " serves without a rank");
    }
    Hold(any_inside, name, " has no member left");
  }

  void Account(const std::string& name, const Group& group) {
    Tokens booked, started, pending;
    for (Serial serial : group.requests) {
      const auto it = state_.requests.find(serial);
      Hold(it != state_.requests.end(), name, " holds a booking of nobody");
      if (it == state_.requests.end()) continue;
      Hold(it->second->group == group.id, name, " holds a booking of a request that is elsewhere");
      booked += it->second->booked;
      if (it->second->started) started += it->second->booked;
      Hold(it->second->started || !it->second->computed, name, " computed a prompt that it has not begun");
      if (!it->second->computed) pending += it->second->fresh;
    }
    Hold(booked == group.kv.booked, name, " booked ", group.kv.booked.value, ", its requests ", booked.value);
    Hold(started == group.kv.booked_started, name, " booked_started ", group.kv.booked_started.value, " against ",
         started.value);
    Hold(pending == group.kv.pending, name, " has ", group.kv.pending.value, " tokens to compute, its requests ",
         pending.value);
    // What an adopted group was found with is booked whether it fits or not.
    Hold(group.adopted || group.kv.Booked() <= group.kv.limit, name, " booked ", group.kv.Booked().value, " over ",
         group.kv.limit.value);
    Hold(group.kv.shared == SharedOf(group), name, " counts ", group.kv.shared.value, " shared tokens, its requests ",
         SharedOf(group).value);
    Hold(group.kv.Booked().value >= 0, name, " shares more than it booked");
    Hold(group.kv.correction.value >= 0, name, " has a negative correction");
    const size_t places = static_cast<size_t>(group.max_sequences + state_.options.engine_queue);
    Hold(group.adopted || group.requests.empty() || group.requests.size() <= places, name,
         " has more requests than places");
  }

  static Tokens UpTo(int32_t blocks) { return {int64_t{blocks} * static_cast<int64_t>(kPrefixBlockTokens)}; }
  // Of beginnings that several of its requests have, all but one.
  Tokens SharedOf(const Group& group) const {
    std::set<uint64_t> seen;
    Tokens shared;
    for (Serial serial : group.requests) {
      const auto it = state_.requests.find(serial);
      if (it == state_.requests.end() || state_.options.prefix_entries <= 0) continue;
      int32_t before = 0;
      for (size_t i = 0; i < it->second->prefix.size() && i < kLandmarkBlocks.size(); ++i) {
        const int32_t blocks = kLandmarkBlocks[i];
        if (!seen.insert(it->second->prefix[i]).second) shared += UpTo(blocks) - UpTo(before);
        before = blocks;
      }
    }
    return shared;
  }

  // What the running requests of the model pin is pinned, and only groups of the model hold anything.
  void Prefixes(const std::string& name, const Model& model) {
    std::map<GroupId, std::map<uint64_t, int>> pinned;
    for (GroupId id : model.groups) {
      if (Live(id) == nullptr || state_.options.prefix_entries <= 0) continue;
      for (Serial serial : Live(id)->requests) {
        const auto it = state_.requests.find(serial);
        if (it == state_.requests.end()) continue;
        for (uint64_t landmark : it->second->prefix) ++pinned[id][landmark];
      }
    }
    Hold(pinned == model.prefixes.Pinned(), name, " pins other beginnings than its requests have");
    for (const auto& [id, stored] : model.prefixes.Stored()) {
      Hold(Live(id) != nullptr && Live(id)->model == model.id, name, " knows what ", Name(id),
           " holds, which is not its own");
    }
  }

  void Models() {
    for (const Model& model : state_.models) {
      const std::string name = Name(model);
      Prefixes(name, model);
      for (GroupId id : model.groups) Hold(Live(id) != nullptr, name, " lists ", Name(id), ", which is not there");
      for (const auto& [share, id] : model.by_share)
        Hold(Live(id) != nullptr && Live(id)->indexed, name, " indexes ", Name(id));
      model.queue.ForEach([&](Serial serial, const WaitingLine::Size&) {
        const auto it = state_.requests.find(serial);
        Hold(it != state_.requests.end() && it->second->Waits(), name, " queues what does not wait");
      });
      Line(name, model.queue);
      const auto named = state_.model_names.find(model.spec.name);
      const bool has_name = named != state_.model_names.end() && named->second == model.id;
      Hold(has_name == !model.undeployed, name, model.undeployed ? " was undeployed and is found" : " is not found");
      Hold(!model.undeployed || (model.queue.empty() && state_.Wanted(model) == 0), name,
           " was undeployed and something waits for it");
      Hold(model.release_at == kNever || !model.queue.empty(), name, " releases what does not wait");
      Hold((model.pace.busy_since == kNever) == model.queue.empty(), name, " does not know whether somebody waits");
    }
  }

  void Line(const std::string& name, const WaitingLine& line) {
    size_t size = 0;
    for (const auto& [key, rank] : line.classes()) {
      size_t waiting = 0, backlogged = 0;
      for (const auto& [tenant, account] : rank.accounts) {
        waiting += account.waiting.size();
        backlogged += !account.waiting.empty();
        Hold(rank.backlogged.contains({account.counter, tenant}) == !account.waiting.empty(), name, " has lost ",
             tenant);
        Hold(account.waiting.empty() || account.counter >= rank.floor, name, ": ", tenant, " is below the floor");
        Hold(account.prepaid.value >= 0, name, ": ", tenant, " prepaid ", account.prepaid.value);
      }
      Hold(waiting == rank.waiting && backlogged == rank.backlogged.size(), name, " counts its queue wrong");
      size += waiting;
    }
    Hold(size == line.size(), name, " queues ", line.size(), " against ", size);
  }

  void Requests() {
    int running = 0;
    Waiting waiting;
    std::map<int, Waiting> classes;
    std::map<std::string, Waiting> tenants;
    std::map<ModelId, Tokens> in_flight;
    for (const auto& [serial, living] : state_.requests) {
      const Request& request = *living;
      const std::string name = absl::StrCat("request number ", serial);
      Hold(state_.Find(request.id) == &request, name, " is not indexed");
      const bool queued = state_.At(request.model).queue.Contains(request.priority, request.tenant, serial);
      const Group* group = request.HoldsBooking() ? Live(request.group) : nullptr;
      const bool booked = group != nullptr && group->requests.contains(serial);
      if (request.HoldsBooking()) in_flight[request.model] += request.booked;
      Hold(request.HoldsBooking() == booked, name, " and its group do not agree on its booking");
      const auto await = state_.awaiting.find(request.group);
      const bool awaited = await != state_.awaiting.end() && await->second.contains(serial);
      Hold(request.awaits_group == awaited, name, " is lost among those that await their group");
      Hold(!request.awaits_group || (!booked && !state_.settled), name, " awaits a group that can not come");
      Hold(request.home.value == 0 || request.Waits(), name, " waits for ", Name(request.home), " and does not wait");
      switch (request.state) {
        case RequestState::kQueued:
        case RequestState::kMigrating: {
          const Waiting size{1, request.prompt, request.bytes};
          waiting += size, classes[request.priority] += size, tenants[request.tenant] += size;
          Hold(queued && !booked && !request.told, name, " is ", Words(request.state), " and queued=", queued,
               " booked=", booked);
          Hold(request.began == (request.state == RequestState::kMigrating), name, " is ", Words(request.state),
               " and began=", request.began);
          Hold(!request.stopped, name, " waits and its client has its end");
          Hold(request.overtaken <= state_.options.most_overtaken, name, " was overtaken ", request.overtaken,
               " times");
          break;
        }
        case RequestState::kAssigned:
        case RequestState::kRunning:
          ++running;
          Hold(!queued && (booked || request.awaits_group) && !request.told, name, " is ", Words(request.state),
               " and queued=", queued, " booked=", booked);
          break;
        default:
          Hold(!queued && request.Placed() && request.told, name, " has ended and is kept without a booking");
      }
      Hold(request.output <= request.max_tokens || request.told, name, " has more output than asked for");
      Hold(request.migrations <= state_.options.most_migrations, name, " has moved ", request.migrations, " times");
      Hold(request.groups_lost < state_.options.most_groups_lost || request.told, name, " goes on after ",
           request.groups_lost, " lost groups");
    }
    Hold(waiting == state_.waiting, "what waits is wrong: ", state_.waiting.requests, " requests against ",
         waiting.requests);
    Hold(classes == state_.classes, "what waits of each priority is wrong");
    Hold(tenants == state_.tenants, "what tenants have waiting is wrong");
    for (const Model& model : state_.models) {
      Hold(model.in_flight == in_flight[model.id], Name(model), " in_flight ", model.in_flight.value);
    }
    Hold(running == state_.running_requests, "running_requests ", state_.running_requests, " against ", running);
    for (const auto& request : state_.ended)
      Hold(request->told && !request->HoldsBooking(), "an ended request is not over");
  }

  void Drains() {
    for (const auto& [id, group] : state_.groups) {
      Hold(!group.InService() || group.leaving == IsDrained(state_, group), Name(id), " leaving=", group.leaving,
           ", and the drains say otherwise");
      const bool young = group.state == GroupState::kForming || group.state == GroupState::kLoading;
      Hold(!group.leaving || !young || !group.InService(), Name(id), " forms to be drained");
      if (group.state != GroupState::kDraining || group.ending != Ending::kNo) continue;
      Hold(!group.requests.empty(), Name(id), " is drained empty and not dissolved");
      bool wanted = group.retiring || std::any_of(group.members.begin(), group.members.end(),
                                                  [&](const Member& m) { return state_.At(m.device).drain_wanted; });
      for (const auto& [op, drain] : state_.drains) {
        wanted |= std::find(drain.groups.begin(), drain.groups.end(), id) != drain.groups.end();
      }
      Hold(wanted, Name(id), " drains and nobody wants it");
    }
    for (const auto& [op, drain] : state_.drains)
      Hold(drain.next_report != kNever, "drain ", op.value, " is forgotten");
    Hold(!state_.settled || state_.deferred.empty(), "a drain is deferred and nobody is waited for");
  }

  void Links() {
    for (const auto& [pair, link] : state_.links) {
      const bool known = link.b.value < state_.devices.size();
      Hold(known && link.a < link.b && pair == std::pair(link.a, link.b), "a link of ", link.a.value, " and ",
           link.b.value, " is out of order");
      const bool wanted = known && link.due != kNever && state_.At(link.a).attached && state_.At(link.b).attached;
      Hold(!wanted || state_.probe_at != kNever, "a link is due and nobody looks");
    }
    std::set<std::string> nodes;
    for (const auto& [id, probe] : state_.probes) {
      Hold(id <= state_.last_probe && state_.links.contains({probe.a, probe.b}), "probe ", id, " was never started");
      Hold(nodes.insert(state_.At(probe.a).spec.node).second, "probe ", id, " is not the only one of its host");
      Hold(state_.probe_at <= probe.deadline, "probe ", id, " may wait for ever");
    }
  }

  void Pools() {
    for (const auto& [id, group] : state_.groups) {
      Hold(!group.retiring || group.state == GroupState::kDraining, Name(id), " is not needed and is ",
           Words(group.state));
    }
    Hold(!PoolsMatter(state_) || state_.pool_at != kNever, "demand may change a pool and nobody looks");
  }

  void Moves() {
    for (const auto& [id, group] : state_.groups) {
      Hold(!group.successor || !group.InService() || IsSuccessor(state_, group), Name(id), " succeeds nobody");
    }
    const Move& move = state_.move;
    if (!move.UnderWay()) return;
    const Group* from = Live(move.from);
    const Group* to = Live(move.to);
    Hold(from != nullptr, "a move from ", Name(move.from), ", which is not there");
    const int64_t gained_us = move.before_us - move.after_us;
    Hold(gained_us * 1000 >= move.before_us * state_.options.move_gain_permille, "a move gains ", gained_us, " of ",
         move.before_us, " us");
    if (to == nullptr || !to->successor || from == nullptr) return;
    Hold(from->model == to->model && from->CountsAsReplica(), Name(move.from), " moves and is no replica");
    Hold(to->state != GroupState::kReady, Name(move.to), " is ready and has not taken its place");
    Hold(to->requests.empty(), Name(move.to), " has requests before its time");
    Hold(!state_.room_missing, Name(move.to), " forms while a replica waits for room");
    for (const Member& member : to->members) {
      const std::vector<GroupId>& there = state_.At(member.device).groups;
      Hold(std::find(there.begin(), there.end(), move.from) == there.end(), "a move takes a device that it leaves");
    }
  }

  void Timers() {
    const auto set = [&](Instant at, TimerKind kind, uint64_t subject) {
      if (at == kNever) return;
      ++expected_timers_;
      Hold(state_.timers.contains(Timer{at, kind, subject}), "timer ", static_cast<int>(kind), " of ", subject,
           " is missing");
    };
    for (const Device& device : state_.devices) {
      set(device.timer, TimerKind::kDevice, device.id.value);
      set(device.quarantined_until, TimerKind::kQuarantine, device.id.value);
      set(device.ailing_until, TimerKind::kHealth, device.id.value);
    }
    for (const auto& [id, group] : state_.groups) set(group.deadline, TimerKind::kGroup, id.value);
    for (const Model& model : state_.models) set(model.release_at, TimerKind::kRelease, model.id.value);
    for (const auto& [serial, request] : state_.requests) set(request->deadline, TimerKind::kRequest, serial);
    for (const auto& [id, drain] : state_.drains) set(drain.next_report, TimerKind::kDrain, id.value);
    set(state_.reattach_until, TimerKind::kReattach, 0);
    set(state_.placement_at, TimerKind::kPlacement, 0);
    set(state_.probe_at, TimerKind::kProbe, 0);
    set(state_.pool_at, TimerKind::kPool, 0);
    set(state_.move_at, TimerKind::kMove, 0);
    Hold(expected_timers_ == state_.timers.size(), state_.timers.size(), " timers, ", expected_timers_, " owners");
    Hold(state_.timers.empty() || state_.timers.begin()->at > state_.now, "a timer is due and was not fired");
  }

  void Scratch() {
    Hold(state_.helped.empty() && state_.queued_now.empty() && state_.emptied.empty() && !state_.place_wanted &&
             !state_.drains_touched && !state_.model_to_wake && state_.keep.empty(),
         "a step left work undone");
  }

  const ClusterState& state_;
  std::vector<std::string> violations_;
  size_t expected_timers_ = 0;
};

}  // namespace

std::vector<std::string> CheckInvariants(const ClusterState& state) { return Checker(state).Run(); }

}  // namespace tandem::core
