// The core among workers that lose streams, freeze, die, fail groups and say things twice, under clients that cancel
// and operators that drain: a seed draws it all. After every step the invariants hold; when the faults stop, every
// request has had exactly one last word, and no booking is left. A seed gives the same actions twice.
//
// TANDEM_SEED=N runs one seed, TANDEM_SEEDS=N that many.
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include "scheduler/core/core.h"
#include "scheduler/core/dump.h"
#include "scheduler/core/format.h"
#include "scheduler/core/invariants.h"
#include "scheduler/core/kept.h"
#include "scheduler/core/words.h"
#include "tests/kept.h"
#include "tests/landmarks.h"
#include "tests/scenario_worker.h"

namespace tandem::core {
namespace {

class World {
 public:
  explicit World(uint64_t seed) : random_(seed * 0x9e3779b97f4a7c15u + 12345) {
    const int nodes = 1 + Draw(2);
    for (int i = 0, count = 2 + Draw(6); i < count; ++i) {
      DeviceSpec spec;
      spec.node = absl::StrCat("h", i % nodes);
      spec.index = static_cast<uint32_t>(i / nodes);
      spec.memory_total = spec.memory_budget = spec.memory_free = {int64_t{8} << 30};
      workers_.push_back({std::make_unique<ScenarioWorker>(spec, Incarnation{static_cast<uint64_t>(i + 1), 1})});
    }
    for (int i = 0; i < 1 + Draw(2); ++i) {
      ModelSpec spec;
      spec.name = absl::StrCat("m", i);
      spec.tensor_parallel = Draw(3);  // 0 = auto
      spec.replicas_min = 1 + Draw(2);
      spec.replicas_max = spec.replicas_min + Draw(3);
      spec.priority = Draw(2);
      spec.max_model_len = 512;
      spec.max_sequences = 1 + Draw(4);
      for (int degree : {1, 2}) spec.costs.push_back({degree, "", {(int64_t{5} << 30) / degree}, {(4 << 20) / degree}});
      models_.push_back(spec);
    }
    options_.engine_queue = Draw(3);
    options_.waiting_room_requests = 5 + Draw(20);
    options_.remembered = 8;
    options_.quarantine_after = Draw(4);
    options_.quarantine_window = Seconds(1 + Draw(120));
    options_.quarantine_first = Seconds(1 + Draw(30));
    options_.quarantine_percent = Draw(101);
    for (int action = 0; action < 8; ++action) {
      options_.health.push_back(
          {absl::StrCat("c", action), static_cast<HealthAction>(action), Seconds(Draw(20)), 1 + Draw(4), ""});
    }
    options_.tenant_room_percent = 10 + Draw(90);
    options_.class_room_percent = 20 + Draw(81);
    options_.waiting_room_bytes = {1000 + Draw(30000)};
    options_.look_ahead = 1 + Draw(8);
    options_.most_overtaken = Draw(4);
    options_.sharing = Draw(2) == 0;
    options_.link_probe = static_cast<LinkProbing>(Draw(3));
    options_.probe_again = Seconds(1 + Draw(10));
    options_.pool_period = Milliseconds(100 + Draw(400));
    options_.pool_up_after = Milliseconds(Draw(1000));
    options_.pool_down_after = Milliseconds(Draw(3000));
    options_.pool_hold = Milliseconds(Draw(3000));
    options_.move_gain_permille = Draw(4) * 50;
    options_.move_calm = Milliseconds(1 + Draw(2000));
    options_.move_rest = Milliseconds(500 + Draw(2000));
    options_.move_rest_most = Seconds(10);
    StartScheduler();
  }

  // Everything may happen.
  void Storm(int steps) {
    for (int i = 0; i < steps && !failed_; ++i) Disturb();
  }

  // Nothing more goes wrong: all must come to an end within bounded time.
  void Calm() {
    for (Worker& worker : workers_) worker.frozen = false;
    for (const Device& device : core_->state().devices) {
      Step(UndrainRequested{device.id});
      Step(UncordonRequested{device.id});
    }
    for (int second = 0; second < 300 && !failed_; ++second) {
      for (Worker& worker : workers_) {
        if (!worker.process->attached()) Step(worker.process->Attach(leader_));
      }
      for (int beat = 0; beat < 4; ++beat) {
        Deliver(1000);
        FinishWork();
        Advance(Milliseconds(250));
      }
      if (second == 100) GiveUp();
      for (const Device& device : core_->state().devices) {
        if (device.Quarantined()) Step(UncordonRequested{device.id});  // somebody looks after it
      }
      if (core_->state().requests.empty() && core_->state().drains.empty() && second > 60) break;
    }
    const ClusterState& state = core_->state();
    std::string waits;
    for (const Model& model : state.models)
      absl::StrAppend(&waits, model.queue.size(), " wait: ", model.waits_for, "\n");
    EXPECT_TRUE(state.requests.empty()) << state.requests.size() << " requests are left\n"
                                        << waits << absl::StrJoin(history_, "\n");
    EXPECT_TRUE(state.drains.empty());
    for (const auto& [id, group] : state.groups) EXPECT_EQ(group.kv.booked.value, 0) << Name(id);
    for (const auto& [id, client] : clients_) EXPECT_EQ(client.last_words, 1) << Hex(id);
    for (const Device& device : state.devices) {
      EXPECT_EQ(device.state, DeviceState::kActive) << device.spec.Name() << "\n" << absl::StrJoin(history_, "\n");
    }
  }

  void Reload() {
    const std::string dump = DumpState(core_->state());
    absl::StatusOr<ClusterState> loaded = LoadState(dump);
    ASSERT_TRUE(loaded.ok()) << loaded.status() << "\n" << dump;
    ASSERT_EQ(DumpState(*loaded), dump);
    core_ = std::make_unique<Core>(*std::move(loaded));
  }

  uint64_t hash() const { return hash_; }
  int steps() const { return steps_; }
  std::map<std::string, int>& seen() { return seen_; }

 private:
  struct Worker {
    std::unique_ptr<ScenarioWorker> process;
    bool frozen = false;
    uint64_t lives = 1;
  };
  struct Client {
    int last_words = 0;
    uint64_t ended_under = 0;  // the leader epoch
    Attempt latest;
  };

  int Draw(int bound) {
    random_ ^= random_ << 13, random_ ^= random_ >> 7, random_ ^= random_ << 17;
    return static_cast<int>(random_ % static_cast<uint64_t>(bound));
  }
  bool Chance(int per_thousand) { return Draw(1000) < per_thousand; }
  Worker& AnyWorker() { return workers_[Draw(static_cast<int>(workers_.size()))]; }

  void StartScheduler() {
    core_ = std::make_unique<Core>(options_);
    for (Worker& worker : workers_) worker.process->CloseStream();
    clients_.clear();  // their streams broke with the scheduler
    const int expected = Draw(2) == 0 ? 0 : static_cast<int>(workers_.size());
    const Kept before = std::exchange(kept_, {});
    const bool recall = Chance(800);  // else the store was thrown away
    if (recall) kept_ = before;
    Step(kept_.Recall(now_, ++leader_, expected));
    for (const auto& [name, known] : kept_.devices()) {
      const Device& device = core_->state().At(core_->state().device_names.at(name));
      EXPECT_EQ(Known(device), known) << name << " came out of the restart as another";
    }
    for (const DrainRequested& asked : kept_.Undecided(now_)) Step(asked);
    for (auto last = undeployed_.rbegin(); last != undeployed_.rend(); ++last) models_.erase(models_.begin() + *last);
    undeployed_.clear();
    for (const ModelSpec& model : models_) Step(ModelConfigured{model});
  }

  void Disturb() {
    const int die = Draw(1000);
    if (die < 200) return Arrive();
    if (die < 550) return Deliver(1 + Draw(4));
    if (die < 750) return Work();
    if (die < 850) return Advance(Milliseconds(Chance(100) ? Draw(8000) : Draw(600)));
    if (die < 920) return Meddle();
    if (die < 960) return Break();
    if (die < 985) return Mend();
    if (die < 997) return Operate();
    if (die < 999) return Ail();
    if (Chance(500)) StartScheduler();
  }

  void Arrive() {
    RequestArrived event;
    event.request = {7, ++last_request_};
    uint32_t model = static_cast<uint32_t>(Draw(static_cast<int>(models_.size())));
    while (undeployed_.contains(model) && Chance(900)) model = (model + 1) % static_cast<uint32_t>(models_.size());
    event.model = models_[model].name;
    event.prompt = {1 + Draw(500)};
    if (Chance(700)) event.max_tokens = Tokens{1 + Draw(300)};
    if (Chance(300)) event.deadline = Milliseconds(Draw(20000));
    if (Chance(200)) event.priority = Draw(3);
    if (Chance(600)) event.tenant = absl::StrCat("t", Draw(3));
    event.bytes = {event.prompt.value * 4 + Draw(1000)};
    if (Chance(500)) event.prefix = LandmarksOf(Draw(3), event.prompt);
    clients_[event.request];
    Step(event);
  }

  void Deliver(int most) {
    for (int i = 0; i < most; ++i) {
      bool any = false;
      for (Worker& worker : workers_) {
        if (worker.frozen || !worker.process->HasAnswer()) continue;
        any = true;
        Event event = worker.process->TakeAnswer();
        if (auto* measured = std::get_if<LinkMeasured>(&event); measured != nullptr) {
          measured->bytes_per_second = int64_t{50'000'000} << Draw(8);  // another each time: groups could go to and fro
        }
        if (const auto* measured = std::get_if<LinkMeasured>(&event); measured != nullptr && Chance(300)) {
          event = LinkProbeFailed{measured->device, measured->probe, "a request came"};
        }
        Step(event);
        said_.push_back(event);
        if (said_.size() > 50) said_.pop_front();
        if (Chance(20)) Step(event);  // said twice
      }
      if (!any) return;
    }
  }

  void Work() {
    Worker& worker = AnyWorker();
    auto& work = worker.process->work();
    if (worker.frozen || work.empty()) return;
    auto it = work.begin();
    std::advance(it, Draw(static_cast<int>(work.size())));
    const RequestId id = it->first;
    if (!it->second.started)
      return Chance(50) ? worker.process->End(id, EndedHow::kRefused, {}) : worker.process->Start(id, Chance(50));
    const int die = Draw(100);
    const Attempt attempt = it->second.attempt;
    if (die < 4) {
      worker.process->Report(RequestComputed{id, attempt});  // once more, perhaps
    } else if (die < 10) {
      it->second.started = false;
      worker.process->Report(RequestPreempted{id, attempt});
    } else if (die < 20) {
      Step(RequestStopped{id, attempt, {Draw(20)}});
    } else if (die < 25) {
      worker.process->End(id, EndedHow::kFault, {});
    } else if (die < 30) {
      worker.process->End(id, EndedHow::kAborted, {Draw(static_cast<int>(it->second.most.value) + 1)});
    } else if (die < 60) {
      worker.process->End(id, EndedHow::kStopped, {Draw(static_cast<int>(it->second.most.value) + 1)});
    }
  }

  void FinishWork() {
    for (Worker& worker : workers_) {
      while (!worker.process->work().empty()) {
        const RequestId id = worker.process->work().begin()->first;
        worker.process->Start(id);
        worker.process->End(id, EndedHow::kLengthReached, {1});
      }
    }
    Deliver(1000);
  }

  // A cluster that was drawn too small for all its models: who waits for the others has no deadline, but a client.
  void GiveUp() {
    std::vector<RequestId> hopeless;
    for (const auto& [serial, request] : core_->state().requests) {
      if (core_->state().Replicas(core_->state().At(request->model)) == 0) hopeless.push_back(request->id);
    }
    for (RequestId id : hopeless) Step(RequestCancelled{id, CancelCause::kClientLeft});
  }

  void Advance(Duration duration) {
    const Instant end = now_ + duration;
    do {
      now_ = std::min({end, beat_, std::max(now_, core_->NextDeadline())});
      if (now_ == beat_) {
        beat_ = beat_ + Milliseconds(500);
        for (Worker& worker : workers_) {
          if (worker.process->attached() && !worker.frozen) Step(worker.process->Heartbeat());
        }
      }
      if (core_->NextDeadline() <= now_) {
        Step(Ticked{});
        EXPECT_GT(core_->NextDeadline(), now_) << "time does not get on";
      }
    } while (now_ < end && !failed_);
  }

  void Meddle() {
    if (last_request_ == 0) return;
    const RequestId id{7, last_request_ - Draw(static_cast<int>(std::min<uint64_t>(last_request_, 20)))};
    if (Chance(600)) return Step(RequestCancelled{id, static_cast<CancelCause>(Draw(3))});
    if (!said_.empty()) Step(said_[Draw(static_cast<int>(said_.size()))]);  // long after
  }

  void Break() {
    Worker& worker = AnyWorker();
    ScenarioWorker& process = *worker.process;
    switch (Draw(5)) {
      case 0:
        worker.frozen = true;
        return;
      case 1:
      case 2:
        if (!process.attached()) return;
        process.CloseStream();
        return Step(WorkerDetached{process.device(), process.incarnation(), Chance(300), "broke"});
      case 3: {
        const bool told = process.attached() && Chance(500);
        if (told) Step(WorkerDetached{process.device(), process.incarnation(), Chance(500), "died"});
        process.Restart({process.incarnation().hi, ++worker.lives});
        worker.frozen = false;
        return Step(process.Attach(leader_));
      }
      default:
        if (process.held().empty()) return;
        process.FailGroup(process.held().begin()->first, static_cast<GroupFailure>(Draw(11)), "drawn");
    }
  }

  void Mend() {
    Worker& worker = AnyWorker();
    if (worker.frozen) {
      worker.frozen = false;
    } else if (!worker.process->attached()) {
      Step(worker.process->Attach(leader_));
    }
  }

  void Operate() {
    const ClusterState& state = core_->state();
    if (state.devices.empty()) return;
    const DeviceId device{static_cast<uint32_t>(Draw(static_cast<int>(state.devices.size())))};
    if (Chance(500)) return ChangeModels();
    switch (Draw(6)) {
      case 0:
        return Step(CordonRequested{device, "drawn"});
      case 1:
        return Step(UncordonRequested{device});
      case 2:
      case 3: {
        DrainRequested event;
        event.operation = {leader_ << 32 | ++last_operation_};
        event.devices = {device};
        if (Chance(300) && !state.groups.empty()) event.group = state.groups.begin()->first;
        event.deadline = Milliseconds(1 + Draw(20000));
        event.on_deadline = static_cast<OnDeadline>(Draw(3));
        event.force = Chance(700);
        return Step(event);
      }
      default:
        return Step(UndrainRequested{device});
    }
  }

  // A device says something of its health, or takes it back.
  void Ail() {
    const ScenarioWorker& process = *AnyWorker().process;
    if (!process.attached()) return;
    HealthReported event{process.device(), process.incarnation(), absl::StrCat("c", Draw(9)), "drawn"};
    event.lasting = Chance(500);
    event.cleared = Chance(300);
    Step(event);
  }

  // Models come, go, change their shape and their numbers.
  void ChangeModels() {
    const uint32_t id = static_cast<uint32_t>(Draw(static_cast<int>(models_.size())));
    const int live = static_cast<int>(models_.size() - undeployed_.size());
    if (undeployed_.contains(id) || live == 1 || Chance(950)) {
      const bool again = undeployed_.contains(id);
      ModelSpec spec = models_[id];
      const bool name_free = again && std::none_of(models_.begin() + id + 1, models_.end(),
                                                   [&](const ModelSpec& later) { return later.name == spec.name; });
      if (again && !name_free) return;
      spec.replicas_min = 1 + Draw(2);
      spec.replicas_max = spec.replicas_min + Draw(3);
      if (!again && Chance(300)) {
        models_[id] = spec;
        return Step(ScaleRequested{{id}, spec.replicas_min, spec.replicas_max, "drawn"});
      }
      spec.tensor_parallel = Draw(3);
      if (Chance(300)) spec.max_sequences = 1 + Draw(4);
      if (Chance(200)) spec.max_model_len = 256 + 256 * Draw(2);
      if (!again) {
        models_[id] = spec;
        return Step(DeployRequested{{id}, spec, "drawn"});
      }
      models_.push_back(spec);
      return Step(DeployRequested{{static_cast<uint32_t>(models_.size() - 1)}, spec, "drawn"});
    }
    undeployed_.insert(id);
    Step(UndeployRequested{{id}, "drawn"});
  }

  void Step(const Event& event) {
    if (failed_) return;
    if (const auto* found = std::get_if<RequestFound>(&event)) {
      Client& client = clients_[found->request];
      if (client.ended_under == leader_) return;  // the router keeps what ended longer than a worker stays away
      client.last_words = 0;  // an earlier scheduler may have died between telling the client and telling the worker
    }
    ++steps_;
    history_.push_back(absl::StrCat(now_.us, " ", Format(event)));
    if (history_.size() > 60) history_.pop_front();
    kept_.Ask(now_, event, core_->state());
    const Actions actions = core_->Step(now_, event);
    std::vector<DrainRequested> asked;
    for (const Action& action : actions) {
      kept_.Take(now_, action);
      const std::string line = Format(action);
      for (char c : line) hash_ = (hash_ ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
      history_.push_back("    " + line);
      ++seen_[line.substr(0, line.find(' '))];
      for (const char* news : {"fewer replicas are needed",
                               "it is needed again",
                               "needs its devices more",
                               "wants ",
                               "until replaced",
                               "to other groups",
                               "moved to",
                               "was given up",
                               "serves in its new shape",
                               "makes room for the new",
                               "has its shape again",
                               "in another shape",
                               "undeployed",
                               "the drain was undone",
                               "\"parked: ",
                               " is fenced: ",
                               "cordoned until",
                               "drain: health: ",
                               "STAYS IN SERVICE",
                               "counts no longer",
                               " is over",
                               "not drained: "}) {
        if (line.find(news) != std::string::npos) ++seen_[news];
      }
      Judge(action);
      if (const auto* ask = std::get_if<AskDrain>(&action); ask != nullptr && Chance(800)) {
        asked.push_back({{leader_ << 32 | ++last_operation_},
                         {ask->device},
                         std::nullopt,
                         ask->reason,
                         Milliseconds(1 + Draw(20000))});
      }
      for (Worker& worker : workers_) worker.process->Obey(action, models_);
    }
    const std::vector<std::string> violations = CheckInvariants(core_->state());
    if (!violations.empty() || testing::Test::HasFailure()) {
      failed_ = true;
      ADD_FAILURE() << absl::StrJoin(violations, "\n") << "\nafter\n" << absl::StrJoin(history_, "\n");
    }
    for (const DrainRequested& drain : asked) Step(drain);
  }

  void End(RequestId request) {
    Client& client = clients_[request];
    EXPECT_EQ(++client.last_words, 1);
    client.ended_under = leader_;
  }

  // What the clients see.
  void Judge(const Action& action) {
    if (const auto* fail = std::get_if<FailRequest>(&action)) {
      End(fail->request);
    } else if (const auto* complete = std::get_if<CompleteRequest>(&action)) {
      End(complete->request);
    } else if (const auto* assign = std::get_if<AssignRequest>(&action)) {
      Client& client = clients_[assign->request];
      EXPECT_EQ(client.last_words, 0);
      EXPECT_LT(client.latest, assign->attempt);
      client.latest = assign->attempt;
      const Request* request = std::as_const(*core_).state().Find(assign->request);
      if (request != nullptr && request->migrations > 0) ++seen_["migrated"];
      const Group* group = std::as_const(*core_).state().Find(assign->group);
      for (const Member& member : group->members) {
        EXPECT_TRUE(group->leaving || !core_->state().At(member.device).drain_wanted) << "a drained device gets work";
      }
    } else if (const auto* form = std::get_if<FormGroup>(&action)) {
      for (DeviceId device : form->members) {
        EXPECT_FALSE(core_->state().At(device).drain_wanted) << "a drained device gets a group";
      }
    } else if (const auto* drain = std::get_if<ReportDrain>(&action)) {
      EXPECT_FALSE(ended_drains_.contains(drain->operation)) << "a drain speaks after its end";
      if (drain->done) ended_drains_.insert(drain->operation);
      if (drain->message.find("no worker process is left") != std::string::npos) ++seen_["drained a lost device"];
    }
  }

  uint64_t random_;
  CoreOptions options_;
  std::unique_ptr<Core> core_;
  Instant now_{1};
  Instant beat_{500000};
  Kept kept_;
  std::vector<Worker> workers_;
  std::deque<ModelSpec> models_;   // by ModelId
  std::set<uint32_t> undeployed_;  // of them
  std::map<RequestId, Client> clients_;
  std::deque<Event> said_;
  std::deque<std::string> history_;
  std::map<std::string, int> seen_;
  std::set<OperationId> ended_drains_;
  uint64_t leader_ = 0, last_request_ = 0, last_operation_ = 0;
  uint64_t hash_ = 0xcbf29ce484222325u;
  int steps_ = 0;
  bool failed_ = false;
};

int Number(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::atoi(text) : otherwise;
}

TEST(CoreRandomTest, WhateverHappensEveryRequestEndsOnce) {
  const int only = Number("TANDEM_SEED", 0);
  const int first = only > 0 ? only : 1;
  const int last = only > 0 ? only : Number("TANDEM_SEEDS", 120);
  std::map<std::string, int> seen;
  int steps = 0;
  for (int seed = first; seed <= last && !HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("TANDEM_SEED=", seed));
    World world(static_cast<uint64_t>(seed));
    world.Storm(1500);
    world.Calm();
    steps += world.steps();
    for (const auto& [word, count] : world.seen()) seen[word] += count;
  }
  std::string line;
  for (const auto& [word, count] : seen) absl::StrAppend(&line, " ", word, "=", count);
  std::printf("%d steps;%s\n", steps, line.c_str());
  if (only > 0) return;
  EXPECT_GT(steps, 100000);
  // A storm that never reached a part of the core says nothing about it.
  for (const char* word : {"refuse-worker",
                           "drop-worker",
                           "abort-group",
                           "dissolve-group",
                           "abort-attempt",
                           "report-drain",
                           "keep-device",
                           "keep-drain",
                           "forget-device",
                           "fewer replicas are needed",
                           "it is needed again",
                           "needs its devices more",
                           "wants ",
                           "park-worker",
                           "until replaced",
                           "moved to",
                           "to other groups",
                           "the drain was undone",
                           "serves in its new shape",
                           "makes room for the new",
                           "has its shape again",
                           "in another shape",
                           "undeployed",
                           "\"parked: ",
                           "migrated",
                           " is fenced: ",
                           "cordoned until",
                           "drain: health: ",
                           "STAYS IN SERVICE",
                           "counts no longer",
                           " is over",
                           "drained a lost device"}) {
    EXPECT_GT(seen[word], 0) << word;
  }
}

// A core that was dumped and loaded in the middle of a storm goes on as if nothing was.
TEST(CoreRandomTest, ADumpCarriesEverything) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    World one(seed), two(seed);
    for (int part = 0; part < 40 && !HasFailure(); ++part) {
      one.Storm(40);
      two.Storm(40);
      two.Reload();
      ASSERT_EQ(one.hash(), two.hash()) << seed;
    }
  }
}

TEST(CoreRandomTest, EqualHistoriesGiveEqualResults) {
  for (uint64_t seed : {3, 11}) {
    World one(seed), two(seed);
    one.Storm(1500);
    two.Storm(1500);
    EXPECT_EQ(one.hash(), two.hash()) << seed;
  }
}

}  // namespace
}  // namespace tandem::core
