#include "placement/planner/planner.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "placement/planner/across.h"
#include "placement/planner/cluster_solver.h"
#include "placement/planner/parts.h"
#include "placement/planner/preference.h"
#include "placement/planner/sharing.h"
#include "placement/planner/verdict.h"

namespace tandem::placement {
namespace {

// One shape per model: what `auto` is choosing among.
using Choice = std::vector<int>;

class Planner {
 public:
  Planner(const Topology& topology, const Demand& demand)
      : topology_(topology), demand_(demand), parts_(CutIntoParts(topology)) {
    for (const auto& kind : parts_.kinds) kind->scores.set_most_evaluations(demand.most_evaluations);
    for (size_t p = 0; p < parts_.parts.size(); ++p) {
      const Part& part = parts_.parts[p];
      for (size_t i = 0; i < part.devices.size(); ++i) {
        where_[{part.host, part.devices[i]}] = {static_cast<int>(p), static_cast<int>(i)};
      }
    }
  }

  Plan Run() {
    Choice choice;
    for (const ModelDemand& model : demand_.models) choice.push_back(FirstPossible(model));
    Plan best = PlanWith(choice);
    std::vector<std::string> sentences(demand_.models.size());
    // Degrees of `auto` models in the order of preference, one model after the other; the first that places the most.
    for (size_t m = 0; m < demand_.models.size(); ++m) {
      if (demand_.models[m].shapes.size() < 2) continue;
      Preference preference = PreferShapes(topology_, demand_, parts_, m);
      sentences[m] = std::move(preference.sentence);
      for (const int shape : preference.shapes) {
        if (shape == choice[m]) {
          if (Missing(best, m) == 0) break;
          continue;
        }
        Choice other = choice;
        other[m] = shape;
        Plan plan = PlanWith(other);
        const bool preferred = Missing(plan, m) == 0 && plan.cost.unplaced <= best.cost.unplaced;
        if (preferred || plan.cost.unplaced < best.cost.unplaced) {
          choice = std::move(other);
          best = std::move(plan);
        }
        if (preferred) break;
      }
    }
    Explain(topology_, demand_, choice, best);
    for (size_t m = 0; m < sentences.size(); ++m) best.reports[m].choice = std::move(sentences[m]);
    return best;
  }

 private:
  static int FirstPossible(const ModelDemand& model) {
    for (size_t s = 0; s < model.shapes.size(); ++s) {
      if (model.shapes[s].impossible.empty()) return static_cast<int>(s);
    }
    return -1;
  }

  static int Missing(const Plan& plan, size_t model) {
    return static_cast<int>(
        std::count_if(plan.unplaced.begin(), plan.unplaced.end(),
                      [&](const UnplacedReplica& replica) { return replica.model == static_cast<int>(model); }));
  }

  // With what runs where it is. Only if that leaves a replica out, or moving gains enough, with groups moved.
  Plan PlanWith(const Choice& choice) {
    Plan stay = Solve(choice, /*move=*/false, Objective::kFastest);
    const bool movable = std::any_of(demand_.existing.begin(), demand_.existing.end(),
                                     [](const ExistingGroup& group) { return group.counts && !group.fixed; });
    if (!movable) return stay;
    if (stay.cost.unplaced > 0) {
      Plan moved = Solve(choice, /*move=*/true, Objective::kLeastMoved);
      if (moved.cost.unplaced < stay.cost.unplaced) return moved;
    }
    Plan faster = Solve(choice, /*move=*/true, Objective::kFastest);
    const int64_t enough = stay.cost.sum_ns / 1000 * (1000 - demand_.least_gain_permille);
    if (faster.cost.unplaced <= stay.cost.unplaced && faster.cost.sum_ns < enough) return faster;
    return stay;
  }

  // ---- one solution
  // ------------------------------------------------------------------------------------------------------

  bool Stays(const ExistingGroup& group, bool move) const { return group.fixed || !group.counts || !move; }

  int ShapeOfRunning(const ExistingGroup& group) const {
    const auto& shapes = demand_.models[group.model].shapes;
    for (size_t s = 0; s < shapes.size(); ++s) {
      if (shapes[s].ranks == static_cast<int>(group.devices.size())) return static_cast<int>(s);
    }
    return -1;
  }

  PartSet SetOf(const std::vector<DeviceRef>& devices) const {
    PartSet set{where_.at(devices.front()).first, 0};
    for (const DeviceRef& ref : devices) {
      const auto [part, device] = where_.at(ref);
      if (part != set.part) return {part, 0};  // across parts: it only holds its devices
      set.set |= DeviceSet{1} << device;
    }
    return set;
  }

  // Beside which groups of several ranks may live: single ranks of models that want no such group themselves.
  bool LeavesRoom(const ExistingGroup& group, const Choice& choice) const {
    const int shape = choice[group.model];
    return group.counts && group.devices.size() == 1 && shape >= 0 &&
           demand_.models[group.model].shapes[shape].ranks == 1;
  }

  // `share`: for groups of several ranks, which may live beside single ranks.
  std::vector<PartState> States(const Choice& choice, bool move, bool share) const {
    std::vector<PartState> states;
    for (const Part& part : parts_.parts) {
      PartState state;
      state.foreign.assign(part.kind->host.edges.size(), 0);
      for (size_t i = 0; i < part.devices.size(); ++i) {
        state.available.push_back(AvailableBytes(topology_, demand_, {part.host, part.devices[i]}));
        if (BlockOf(demand_, {part.host, part.devices[i]}) == Block::kNone) state.free |= DeviceSet{1} << i;
      }
      states.push_back(std::move(state));
    }
    for (const ExistingGroup& group : demand_.existing) {
      if (!Stays(group, move)) continue;
      for (const DeviceRef& ref : group.devices) {
        const auto [part, device] = where_.at(ref);
        if (share && LeavesRoom(group, choice)) {
          states[part].available[device] -= demand_.models[group.model].shapes[choice[group.model]].Least();
        } else {
          states[part].free &= ~(DeviceSet{1} << device);
        }
      }
      const PartSet set = SetOf(group.devices);
      if (CountOf(set.set) < 2) continue;
      const auto& crossings = parts_.parts[set.part].kind->scores.RingOf(set.set).crossings;
      for (size_t e = 0; e < crossings.size(); ++e) states[set.part].foreign[e] += crossings[e];
    }
    return states;
  }

  Plan Solve(const Choice& choice, bool move, Objective objective) {
    Plan alone = SolveOn(choice, move, objective, States(choice, move, false), /*share=*/false);
    if (alone.cost.unplaced == 0 || !demand_.sharing) return alone;
    // Single ranks may live beside others: only groups of several ranks have devices of their own.
    Plan shared = SolveOn(choice, move, objective, States(choice, move, true), /*share=*/true);
    return shared.cost.unplaced < alone.cost.unplaced ? shared : alone;
  }

  Plan SolveOn(const Choice& choice, bool move, Objective objective, const std::vector<PartState>& states, bool share) {
    Plan plan;
    std::vector<ClusterItem> items;
    std::vector<int> model_of;
    std::vector<int> kept(demand_.models.size(), 0);
    for (size_t e = 0; e < demand_.existing.size(); ++e) {
      const ExistingGroup& group = demand_.existing[e];
      if (!group.counts || !Stays(group, move)) continue;
      ++kept[group.model];
      plan.groups.push_back(Keep(static_cast<int>(e)));
    }
    for (size_t m = 0; m < demand_.models.size(); ++m) {
      const ModelDemand& model = demand_.models[m];
      if (choice[m] < 0 || (share && model.shapes[choice[m]].ranks == 1)) continue;
      const Shape& shape = model.shapes[choice[m]];
      ClusterItem item;
      item.ranks = shape.ranks;
      item.replicas = std::max(0, model.replicas - kept[m]);
      item.priority = model.priority;
      item.workload = model.workload;
      item.least_bytes = shape.Least();
      item.rank_bytes = shape.fixed_bytes;
      item.memory_share = model.memory_share;
      for (const ExistingGroup& group : demand_.existing) {
        if (group.model == static_cast<int>(m) && group.counts && !Stays(group, move)) {
          item.running.push_back(SetOf(group.devices));
        }
      }
      items.push_back(std::move(item));
      model_of.push_back(static_cast<int>(m));
    }
    const ClusterSolution found = SolveCluster(parts_, states, items, objective);
    plan.cost = found.cost;
    plan.cost.unplaced = 0;
    plan.optimal = found.exact;
    plan.bound_ns = found.bound_ns;
    plan.reports.resize(demand_.models.size());
    for (const ClusterGroup& group : found.groups) {
      const int m = model_of[group.item];
      plan.groups.push_back(Place(m, choice[m], group.where, found.best_ns[group.item]));
    }
    for (size_t i = 0; i < items.size(); ++i) plan.reports[model_of[i]].candidates = found.candidates[i];
    if (demand_.across_hosts && parts_.parts.size() > 1) {
      std::vector<PartState> left = states;
      for (const PlannedGroup& group : plan.groups) {
        for (const DeviceRef& ref : group.devices) {
          const auto [part, device] = where_.at(ref);
          left[part].free &= ~(DeviceSet{1} << device);
        }
      }
      PlaceAcross(topology_, demand_, parts_, choice, std::move(left), plan);
    }
    if (share) {
      PlaceShared(topology_, demand_, choice, plan);
      plan.optimal = false;  // the last ones took what was left
    }
    Settle(plan);
    return plan;
  }

  PlannedGroup Keep(int existing) const {
    const ExistingGroup& running = demand_.existing[existing];
    PlannedGroup group;
    group.model = running.model;
    group.devices = running.devices;
    group.shape = ShapeOfRunning(running);
    group.kept = existing;
    const PartSet set = SetOf(running.devices);
    if (CountOf(set.set) > 1) group.ring = RingOn(set, {});
    return group;
  }

  Ring RingOn(const PartSet& where, absl::Span<const int> foreign) const {
    const Part& part = parts_.parts[where.part];
    std::vector<int> members;
    for (const int device : MembersOf(where.set)) members.push_back(part.devices[device]);
    return BestRing(topology_.hosts[part.host], members, foreign);  // the part has the host's edges
  }

  PlannedGroup Place(int model, int shape, const PartSet& where, int64_t best_ns) const {
    const Part& part = parts_.parts[where.part];
    PlannedGroup group;
    group.model = model;
    group.shape = shape;
    group.best_ns = best_ns;
    if (CountOf(where.set) == 1) {
      group.devices.push_back({part.host, part.devices[LowestOf(where.set)]});
    } else {
      group.ring = RingOn(where, {});
      for (const int device : group.ring.order) group.devices.push_back({part.host, device});
    }
    for (size_t e = 0; e < demand_.existing.size(); ++e) {
      const ExistingGroup& running = demand_.existing[e];
      if (running.model == model && running.counts && SetOf(running.devices) == where) {
        group.kept = static_cast<int>(e);
        group.devices = running.devices;
      }
    }
    return group;
  }

  // Replica numbers, the rings as they are beside each other, communication times, KV, and who is missing.
  void Settle(Plan& plan) const {
    std::stable_sort(plan.groups.begin(), plan.groups.end(), [](const PlannedGroup& a, const PlannedGroup& b) {
      const auto lowest = [](const PlannedGroup& g) { return *std::min_element(g.devices.begin(), g.devices.end()); };
      return std::tuple(a.model, lowest(a)) < std::tuple(b.model, lowest(b));
    });
    std::map<int, std::vector<int>> crossings;  // by part
    const auto add = [&](const std::vector<DeviceRef>& devices, int sign) {
      const PartSet set = SetOf(devices);
      if (CountOf(set.set) < 2) return;
      const PartKind& kind = *parts_.parts[set.part].kind;
      auto& sum = crossings.try_emplace(set.part, kind.host.edges.size(), 0).first->second;
      const auto& own = parts_.parts[set.part].kind->scores.RingOf(set.set).crossings;
      for (size_t e = 0; e < own.size(); ++e) sum[e] += sign * own[e];
    };
    for (const PlannedGroup& group : plan.groups) add(group.devices, 1);
    for (const ExistingGroup& group : demand_.existing) {
      if (!group.counts) add(group.devices, 1);
    }
    std::vector<int> placed(demand_.models.size(), 0);
    plan.cost.sum_ns = 0;
    for (PlannedGroup& group : plan.groups) {
      group.replica = placed[group.model]++;
      const PartSet set = SetOf(group.devices);
      if (CountOf(set.set) > 1) {
        add(group.devices, -1);
        const auto& foreign = crossings.at(set.part);
        if (std::any_of(foreign.begin(), foreign.end(), [](int n) { return n > 0; })) {
          const std::vector<int> order = group.ring.order;
          group.ring = RingOn(set, foreign);
          if (group.kept < 0) {
            for (size_t r = 0; r < group.ring.order.size(); ++r) group.devices[r].device = group.ring.order[r];
          }
        }
        add(group.devices, 1);
        group.communication_ns = CommunicationNsPerToken(group.ring, static_cast<int>(group.devices.size()),
                                                         demand_.models[group.model].workload);
      }
      plan.cost.sum_ns += group.communication_ns;
    }
    plan.bound_ns = std::min(plan.bound_ns, plan.cost.sum_ns);
    AssignKv(topology_, demand_, plan);
    for (size_t m = 0; m < demand_.models.size(); ++m) {
      for (int r = placed[m]; r < demand_.models[m].replicas; ++r) {
        plan.unplaced.push_back({static_cast<int>(m), r, Fit::kLater, ""});
        ++plan.cost.unplaced;
      }
    }
  }

  const Topology& topology_;
  const Demand& demand_;
  const Parts parts_;
  std::map<DeviceRef, std::pair<int, int>> where_;  // part and device in it
};

}  // namespace

Plan MakePlan(const Topology& topology, const Demand& demand) { return Planner(topology, demand).Run(); }

}  // namespace tandem::placement
