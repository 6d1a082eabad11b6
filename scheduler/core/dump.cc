#include "scheduler/core/dump.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/fnv1a.h"
#include "scheduler/core/booking.h"
#include "scheduler/core/invariants.h"
#include "scheduler/core/state_fields.h"
#include "scheduler/core/waiting_room.h"

namespace tandem::core {

// An adoption and an output history as lines of their own.
struct AdoptionRank {
  int rank = 0;
  DeviceId device;
  bool ready = false;
};
struct AdoptionLine {
  GroupId group;
  GroupEpoch epoch;
  std::string model;
  int size = 0;
  std::vector<AdoptionRank> ranks;
  bool conflict = false;
  int32_t kv_blocks = 0;
  std::string numerics_id;
  std::string deployment;
  std::vector<uint64_t> prefixes;
};
// What the cache of a group holds.
struct PrefixLine {
  ModelId model;
  GroupId group;
  std::vector<uint64_t> stored;
};
struct OutputsLine {
  ModelId model;
  std::vector<uint32_t> counts;
};
// One priority of a model's line, with what its tenants were charged.
struct TenantCharge {
  std::string tenant;
  Tokens counter, prepaid;
};
struct LineClass {
  ModelId model;
  int priority = 0;
  Tokens floor;
  std::vector<TenantCharge> tenants;
};
template <>
struct Fields<TenantCharge> {
  static void Visit(auto&& v) {
    v("tenant", &TenantCharge::tenant);
    v("counter", &TenantCharge::counter);
    v("prepaid", &TenantCharge::prepaid);
  }
};
template <>
struct Fields<LineClass> {
  static void Visit(auto&& v) {
    using T = LineClass;
    v("model", &T::model);
    v("priority", &T::priority);
    v("floor", &T::floor);
    v("tenants", &T::tenants);
  }
};
template <>
struct Fields<AdoptionRank> {
  static void Visit(auto&& v) {
    v("rank", &AdoptionRank::rank);
    v("device", &AdoptionRank::device);
    v("ready", &AdoptionRank::ready);
  }
};
template <>
struct Fields<AdoptionLine> {
  static void Visit(auto&& v) {
    using T = AdoptionLine;
    v("group", &T::group);
    v("epoch", &T::epoch);
    v("model", &T::model);
    v("size", &T::size);
    v("ranks", &T::ranks);
    v("conflict", &T::conflict);
    v("kv_blocks", &T::kv_blocks);
    v("numerics_id", &T::numerics_id);
    v("deployment", &T::deployment);
    v("prefixes", &T::prefixes);
  }
};
template <>
struct Fields<PrefixLine> {
  static void Visit(auto&& v) {
    v("model", &PrefixLine::model);
    v("group", &PrefixLine::group);
    v("stored", &PrefixLine::stored);
  }
};
template <>
struct Fields<OutputsLine> {
  static void Visit(auto&& v) {
    v("model", &OutputsLine::model);
    v("counts", &OutputsLine::counts);
  }
};

namespace {

constexpr absl::string_view kFirstLine = "tandem-core-state version=1";

template <typename T>
void Line(std::string& out, const char* word, const T& thing) {
  std::string line = word;
  PutFields(line, thing);
  absl::StrAppend(&out, line, "\n");
}

class Loader {
 public:
  absl::StatusOr<ClusterState> Run(absl::string_view dump) {
    int number = 0;
    for (absl::string_view line : absl::StrSplit(dump, '\n')) {
      ++number;
      if (number == 1 && line != kFirstLine) return absl::InvalidArgumentError("line 1: not a state of version 1");
      if (number == 1 || line.empty()) continue;
      if (absl::Status status = Take(line); !status.ok()) {
        return absl::InvalidArgumentError(absl::StrCat("line ", number, ": ", status.message()));
      }
    }
    if (absl::Status status = CheckReferences(); !status.ok()) return status;
    Rebuild();
    const std::vector<std::string> violations = CheckInvariants(state_);
    if (!violations.empty()) return absl::InvalidArgumentError(absl::StrCat("inconsistent: ", violations.front()));
    return std::move(state_);
  }

 private:
  absl::Status Take(absl::string_view text) {
    const absl::StatusOr<TextLine> line = ParseTextLine(text);
    if (!line.ok()) return line.status();
    const std::string& word = line->word;
    if (word == "state") return GetFields(line->pairs, state_);
    if (word == "options") return GetFields(line->pairs, state_.options);
    if (word == "device") return GetFields(line->pairs, state_.devices.emplace_back());
    if (word == "model") return GetFields(line->pairs, state_.models.emplace_back());
    if (word == "group") return GetFields(line->pairs, groups_.emplace_back());
    if (word == "dissolved") return GetFields(line->pairs, state_.dissolved.emplace_back());
    if (word == "request") return GetFields(line->pairs, requests_.emplace_back());
    if (word == "ended") return GetFields(line->pairs, *ended_.emplace_back(std::make_unique<Request>()));
    if (word == "drain") return GetFields(line->pairs, drains_.emplace_back());
    if (word == "link") return GetFields(line->pairs, links_.emplace_back());
    if (word == "probe") return GetFields(line->pairs, probes_.emplace_back());
    if (word == "adoption") return GetFields(line->pairs, adoptions_.emplace_back());
    if (word == "prefixes") return GetFields(line->pairs, prefixes_.emplace_back());
    if (word == "line") return GetFields(line->pairs, lines_.emplace_back());
    if (word == "outputs") return GetFields(line->pairs, outputs_.emplace_back());
    return absl::InvalidArgumentError(absl::StrCat("'", word.substr(0, 40), "' is no part of a state"));
  }

  bool Good(DeviceId id) const { return id.value < state_.devices.size(); }
  bool Good(ModelId id) const { return id.value < state_.models.size(); }
  bool Good(GroupId id) const {
    return std::any_of(groups_.begin(), groups_.end(), [&](const Group& group) { return group.id == id; });
  }
  bool Good(const Group& group) const {
    return Good(group.model) && !group.members.empty() && group.block_tokens > 0 &&
           std::all_of(group.members.begin(), group.members.end(), [&](const Member& m) { return Good(m.device); });
  }
  template <typename Range>
  bool AllGood(const Range& range) const {
    return std::all_of(range.begin(), range.end(), [&](const auto& one) { return Good(one); });
  }
  bool Good(const std::unique_ptr<Request>& request) const { return Good(*request); }
  bool Good(const Request& request) const {
    return Good(request.model) && (!request.HoldsBooking() || Good(request.group));
  }

  // Nothing after this may meet an id that is not there.
  absl::Status CheckReferences() const {
    bool good = AllGood(groups_) && AllGood(state_.dissolved) && AllGood(requests_) && AllGood(ended_);
    for (size_t i = 0; i < state_.devices.size(); ++i) {
      good &= state_.devices[i].id.value == i && AllGood(state_.devices[i].groups);
    }
    for (size_t i = 0; i < state_.models.size(); ++i) {
      good &=
          state_.models[i].id.value == i && AllGood(state_.models[i].groups) && AllGood(state_.models[i].report.chosen);
    }
    good &= state_.models_to_look_at <= state_.models.size();
    for (const Drain& drain : drains_) good &= AllGood(drain.devices);
    for (const DrainRequested& asked : state_.deferred) good &= AllGood(asked.devices);
    for (const LinkRecord& link : links_) good &= Good(link.a) && Good(link.b);
    for (const LinkProbe& probe : probes_) good &= Good(probe.a) && Good(probe.b);
    for (const AdoptionLine& line : adoptions_) {
      for (const AdoptionRank& rank : line.ranks) good &= Good(rank.device);
    }
    for (const PrefixLine& line : prefixes_) good &= Good(line.model) && Good(line.group);
    for (const OutputsLine& line : outputs_) good &= Good(line.model) && line.counts.size() <= OutputHistory::kBuckets;
    const auto charge = [](Tokens t) { return t.value >= 0 && t.value < int64_t{1} << 60; };
    for (const LineClass& line : lines_) {
      good &= Good(line.model) && charge(line.floor);
      for (const TenantCharge& one : line.tenants) good &= charge(one.counter) && charge(one.prepaid);
    }
    std::vector<RequestId> ids;
    std::vector<Serial> serials;
    for (const Request& request : requests_) ids.push_back(request.id), serials.push_back(request.serial);
    std::sort(ids.begin(), ids.end());
    std::sort(serials.begin(), serials.end());
    good &= std::adjacent_find(ids.begin(), ids.end()) == ids.end();
    good &= std::adjacent_find(serials.begin(), serials.end()) == serials.end();
    return good ? absl::OkStatus()
                : absl::InvalidArgumentError("it refers to what it does not hold, or names it twice");
  }

  // A timer's slot was read with its owner; the set of timers was not.
  void Rearm(Instant& slot, TimerKind kind, uint64_t subject) {
    const Instant at = std::exchange(slot, kNever);
    state_.SetTimer(slot, at, kind, subject);
  }

  void Rebuild() {
    for (Device& device : state_.devices) {
      state_.NameDevice(device);
      Rearm(device.timer, TimerKind::kDevice, device.id.value);
      Rearm(device.quarantined_until, TimerKind::kQuarantine, device.id.value);
      Rearm(device.ailing_until, TimerKind::kHealth, device.id.value);
    }
    for (Model& model : state_.models) {
      if (!model.undeployed) state_.NameModel(model);
      Rearm(model.release_at, TimerKind::kRelease, model.id.value);
    }
    for (Group& group : groups_) {
      const GroupId id = group.id;
      Rearm(state_.AddGroup(std::move(group)).deadline, TimerKind::kGroup, id.value);
    }
    const Serial last_serial = state_.last_serial;
    for (auto& read : ended_) state_.KeepEnded(std::move(read));
    for (Request& read : requests_) {
      state_.last_serial = read.serial - 1;  // AddRequest counts on from here
      Request& request = state_.AddRequest(read.id);
      request = std::move(read);
      Rearm(request.deadline, TimerKind::kRequest, request.serial);
      Enter(request);
    }
    state_.last_serial = last_serial;
    for (auto& [id, group] : state_.groups) Reindex(state_, group);
    for (const LineClass& line : lines_) {
      WaitingLine& queue = state_.At(line.model).queue;
      queue.Restore(line.priority, line.floor);
      for (const TenantCharge& one : line.tenants) queue.Restore(line.priority, one.tenant, one.counter, one.prepaid);
    }
    for (Drain& drain : drains_) {
      const OperationId id = drain.id;
      Drain& added = state_.drains[id];
      added = std::move(drain);
      Rearm(added.next_report, TimerKind::kDrain, id.value);
    }
    for (AdoptionLine& line : adoptions_) {
      Adoption adoption{line.epoch,
                        line.model,
                        line.size,
                        {},
                        line.conflict,
                        line.kv_blocks,
                        line.numerics_id,
                        line.deployment,
                        {line.prefixes.begin(), line.prefixes.end()}};
      for (const AdoptionRank& rank : line.ranks) adoption.ranks[rank.rank] = {rank.device, rank.ready};
      state_.adoptions.emplace(line.group, std::move(adoption));
    }
    for (const PrefixLine& line : prefixes_) {
      for (uint64_t landmark : line.stored) state_.At(line.model).prefixes.Store(landmark, line.group, SIZE_MAX);
    }
    for (const OutputsLine& line : outputs_) {
      std::array<uint32_t, OutputHistory::kBuckets> counts = {};
      std::copy(line.counts.begin(), line.counts.end(), counts.begin());
      state_.At(line.model).outputs.Restore(counts);
    }
    Rearm(state_.reattach_until, TimerKind::kReattach, 0);
    Rearm(state_.placement_at, TimerKind::kPlacement, 0);
    for (LinkRecord& link : links_) state_.links.emplace(std::pair(link.a, link.b), std::move(link));
    for (const LinkProbe& probe : probes_) state_.probes.emplace(probe.id, probe);
    Rearm(state_.probe_at, TimerKind::kProbe, 0);
    Rearm(state_.pool_at, TimerKind::kPool, 0);
    Rearm(state_.move_at, TimerKind::kMove, 0);
  }

  // Into its queue or its group, and into the sums.
  void Enter(const Request& request) {
    Model& model = state_.At(request.model);
    if (request.HoldsBooking()) {
      state_.Find(request.group)->requests.insert(request.serial);
      model.in_flight += request.booked;
      if (state_.options.prefix_entries > 0) model.prefixes.Pin(request.prefix, request.group);
    }
    if (request.awaits_group) state_.awaiting[request.group].insert(request.serial);
    if (request.Waits()) {
      model.queue.Join(request.priority, request.tenant, request.serial, SizeOf(request));
      EnterRoom(state_, request);
    } else if (!request.told) {
      ++state_.running_requests;
    }
  }

  ClusterState state_;
  std::vector<Group> groups_;
  std::vector<Request> requests_;
  std::vector<std::unique_ptr<Request>> ended_;
  std::vector<Drain> drains_;
  std::vector<LinkRecord> links_;
  std::vector<LinkProbe> probes_;
  std::vector<AdoptionLine> adoptions_;
  std::vector<PrefixLine> prefixes_;
  std::vector<OutputsLine> outputs_;
  std::vector<LineClass> lines_;
};

}  // namespace

std::string DumpState(const ClusterState& state) {
  std::string out = absl::StrCat(kFirstLine, "\n");
  Line(out, "options", state.options);
  Line(out, "state", state);
  for (const Device& device : state.devices) Line(out, "device", device);
  for (const Model& model : state.models) Line(out, "model", model);
  for (const Model& model : state.models) {
    const auto& counts = model.outputs.counts();
    const auto last = std::find_if(counts.rbegin(), counts.rend(), [](uint32_t n) { return n > 0; }).base();
    if (last != counts.begin()) Line(out, "outputs", OutputsLine{model.id, {counts.begin(), last}});
  }
  for (const Model& model : state.models) {
    for (auto& [group, stored] : model.prefixes.Stored()) Line(out, "prefixes", PrefixLine{model.id, group, stored});
  }
  for (const Model& model : state.models) {
    for (const auto& [key, rank] : model.queue.classes()) {
      LineClass line{model.id, -key, rank.floor, {}};
      for (const auto& [tenant, account] : rank.accounts) {
        line.tenants.push_back({tenant, account.counter, account.prepaid});
      }
      Line(out, "line", line);
    }
  }
  for (const auto& [id, group] : state.groups) Line(out, "group", group);
  for (const Group& group : state.dissolved) Line(out, "dissolved", group);
  for (const auto& [id, adoption] : state.adoptions) {
    AdoptionLine line{id,
                      adoption.epoch,
                      adoption.model,
                      adoption.size,
                      {},
                      adoption.conflict,
                      adoption.kv_blocks,
                      adoption.numerics_id,
                      adoption.deployment,
                      {adoption.prefixes.begin(), adoption.prefixes.end()}};
    for (const auto& [rank, claimed] : adoption.ranks) line.ranks.push_back({rank, claimed.device, claimed.ready});
    Line(out, "adoption", line);
  }
  for (const auto& [serial, request] : state.requests) Line(out, "request", *request);
  for (const auto& request : state.ended) Line(out, "ended", *request);
  for (const auto& [id, drain] : state.drains) Line(out, "drain", drain);
  for (const auto& [pair, link] : state.links) Line(out, "link", link);
  for (const auto& [id, probe] : state.probes) Line(out, "probe", probe);
  return out;
}

absl::StatusOr<ClusterState> LoadState(absl::string_view dump) { return Loader().Run(dump); }

uint64_t StateHash(const ClusterState& state) { return Fnv1a().Add(DumpState(state)).value(); }

}  // namespace tandem::core
