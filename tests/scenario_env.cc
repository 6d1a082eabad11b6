#include "tests/scenario_env.h"

#include <algorithm>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <utility>
#include <variant>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "scheduler/core/dump.h"
#include "scheduler/core/event_fields.h"
#include "scheduler/core/format.h"
#include "scheduler/core/invariants.h"
#include "scheduler/core/parse.h"
#include "scheduler/core/state_fields.h"
#include "scheduler/core/words.h"

namespace tandem::core {
namespace {

// "64KiB", "30s", "500": a number with its unit, in bytes or microseconds.
int64_t Quantity(const std::string& text) {
  size_t used = 0;
  const double number = std::stod(text, &used);
  static const std::map<std::string, int64_t> kUnits = {{"", 1},          {"KiB", 1 << 10}, {"MiB", 1 << 20},
                                                        {"GiB", 1 << 30}, {"ms", 1000},     {"s", 1000000}};
  const auto unit = kUnits.find(text.substr(used));
  if (unit == kUnits.end()) throw std::invalid_argument(absl::StrCat("what is '", text, "'?"));
  return static_cast<int64_t>(number * static_cast<double>(unit->second));
}

template <typename Enum>
Enum EnumNamed(const std::string& word) {
  size_t index = 0;
  for (const char* known : EnumWords<Enum>::kWords) {
    if (word == known) return static_cast<Enum>(index);
    ++index;
  }
  throw std::invalid_argument(absl::StrCat("what is '", word, "'?"));
}

constexpr Duration kHeartbeat = Milliseconds(500);

// Every attach and every wish has one; `show kept` says what they came to.
bool IsForTheStore(const Action& action) {
  return std::holds_alternative<KeepDevice>(action) || std::holds_alternative<ForgetDevice>(action) ||
         std::holds_alternative<KeepDrain>(action);
}

}  // namespace

std::string ScenarioEnv::Command::Key(const std::string& name, const std::string& otherwise) const {
  const auto it = keys.find(name);
  return it == keys.end() ? otherwise : it->second;
}

bool ScenarioEnv::Command::Has(const std::string& word) const {
  return std::find(words.begin(), words.end(), word) != words.end();
}

ScenarioEnv::Command ScenarioEnv::Split(const std::string& line) {
  Command command;
  static const std::regex kPart(R"re((\S+?)="([^"]*)"|(\S+?)=(\S*)|(\S+))re");
  for (std::sregex_iterator it(line.begin(), line.end(), kPart), end; it != end; ++it) {
    if ((*it)[1].matched) {
      command.keys[(*it)[1]] = (*it)[2];
    } else if ((*it)[3].matched) {
      command.keys[(*it)[3]] = (*it)[4];
    } else if (command.verb.empty()) {
      command.verb = (*it)[5];
    } else {
      command.words.push_back((*it)[5]);
    }
  }
  return command;
}

ScenarioEnv::ScenarioEnv() = default;

std::string ScenarioEnv::Run(const std::string& line) {
  output_.clear();
  const Command command = Split(line);
  const std::string& verb = command.verb;
  static const std::set<std::string> kOfRequests = {"started", "computed", "preempted", "finished",
                                                    "stopped", "spoiled",  "cancel"};
  static const std::set<std::string> kOfWorkers = {
      "freeze",      "thaw",   "detach",   "return",  "restart", "impostor", "fail",        "free-blocks",
      "memory-free", "cordon", "uncordon", "undrain", "link",    "step",     "stand-still", "health"};
  try {
    if (verb == "start" || verb == "leader") {
      Start(command);
    } else if (verb == "rule") {
      options_.health.push_back({command.words.at(0),
                                 EnumNamed<HealthAction>(command.words.at(1)),
                                 {Quantity(command.Key("cool_off", "0"))},
                                 std::stoi(command.Key("times", "2")),
                                 command.Key("because", "")});
    } else if (verb == "model") {
      AddModel(command);
    } else if (verb == "deploy") {
      Deploy(command);
    } else if (verb == "undeploy") {
      const ModelId id = ModelNamed(command.words.at(0));
      undeployed_.insert(id.value);
      Step(UndeployRequested{id, command.Key("reason", "")});
    } else if (verb == "scale") {
      Scale(command);
    } else if (verb == "worker") {
      AddWorkers(command);
    } else if (verb == "settle") {
      Settle(command.Has("quiet"));
    } else if (verb == "request") {
      Arrive(command);
    } else if (kOfRequests.contains(verb)) {
      RequestVerb(command);
    } else if (kOfWorkers.contains(verb)) {
      WorkerVerb(command);
    } else if (verb == "tick") {
      Tick({Quantity(command.words.at(0))});
    } else if (verb == "drain") {
      Drain(command);
    } else if (verb == "explain") {
      Explain(command.words.at(0));
    } else if (verb == "reload") {
      auto state = LoadState(DumpState(core_->state()));
      if (!state.ok()) throw std::invalid_argument(std::string(state.status().message()));
      core_ = std::make_unique<Core>(*std::move(state));
    } else if (verb == "show") {
      Show(command.words.at(0));
    } else if (verb == "event") {
      const auto event = ParseEvent(line.substr(6));
      if (!event.ok()) throw std::invalid_argument(std::string(event.status().message()));
      Step(*event);
    } else {
      throw std::invalid_argument(absl::StrCat("no command '", verb, "'"));
    }
  } catch (const std::exception& error) {
    Say(absl::StrCat("error: ", error.what()));
  }
  return output_.empty() ? "ok\n" : output_;
}

void ScenarioEnv::Start(const Command& command) {
  options_.waiting_room_requests = std::stoi(command.Key("waiting_room", absl::StrCat(options_.waiting_room_requests)));
  options_.waiting_room_tokens = {
      std::stoll(command.Key("waiting_tokens", absl::StrCat(options_.waiting_room_tokens.value)))};
  options_.waiting_room_bytes = {
      std::stoll(command.Key("waiting_bytes", absl::StrCat(options_.waiting_room_bytes.value)))};
  options_.class_room_percent = std::stoi(command.Key("class_percent", absl::StrCat(options_.class_room_percent)));
  options_.tenant_room_percent = std::stoi(command.Key("tenant_percent", absl::StrCat(options_.tenant_room_percent)));
  options_.most_overtaken = std::stoi(command.Key("overtaken", absl::StrCat(options_.most_overtaken)));
  options_.quarantine_after = std::stoi(command.Key("quarantine", absl::StrCat(options_.quarantine_after)));
  options_.engine_queue = std::stoi(command.Key("engine_queue", absl::StrCat(options_.engine_queue)));
  options_.most_migrations = std::stoi(command.Key("migrations", absl::StrCat(options_.most_migrations)));
  options_.overcommit = std::stod(command.Key("overcommit", absl::StrCat(options_.overcommit)));
  options_.link_probe = EnumNamed<LinkProbing>(command.Key("probe", "off"));
  options_.sharing = command.Key("sharing", "off") == "on";
  options_.move_gain_permille = std::stoi(command.Key("move_gain", absl::StrCat(options_.move_gain_permille)));
  options_.remembered = std::stoi(command.Key("remembered", absl::StrCat(options_.remembered)));
  core_ = std::make_unique<Core>(options_);
  for (Named& named : workers_) named.worker->CloseStream();
  const uint64_t epoch = std::stoull(command.Key("epoch", command.Key("leader", "1")));
  quiet_ = true;
  LeaderStarted started{epoch, std::stoi(command.Key("expected", "0"))};
  if (command.Has("recall")) {
    quiet_ = false;
    started = kept_.Recall(now_, epoch, started.expected_devices);
  }
  Step(started);
  if (command.Has("recall")) {
    for (const DrainRequested& asked : kept_.Undecided(now_)) Step(asked);
  }
  quiet_ = true;
  for (auto last = undeployed_.rbegin(); last != undeployed_.rend(); ++last) models_.erase(models_.begin() + *last);
  undeployed_.clear();
  for (const ModelSpec& model : models_) Step(ModelConfigured{model});
  quiet_ = false;
}

ModelId ScenarioEnv::ModelNamed(const std::string& name) const {
  for (uint32_t i = 0; i < models_.size(); ++i) {
    if (models_[i].name == name && !undeployed_.contains(i)) return {i};
  }
  throw std::invalid_argument(absl::StrCat("there is no model ", name));
}

// A name that is known gets the shape that the command says, as the shell does it.
void ScenarioEnv::Deploy(const Command& command) {
  const ModelSpec spec = SpecFrom(command);
  ModelId id{static_cast<uint32_t>(models_.size())};
  for (uint32_t i = 0; i < models_.size(); ++i) {
    if (models_[i].name == spec.name && !undeployed_.contains(i)) id = {i};
  }
  if (id.value == models_.size()) models_.emplace_back();
  models_[id.value] = spec;
  Step(DeployRequested{id, spec, command.Key("reason", "")});
}

void ScenarioEnv::Scale(const Command& command) {
  const ModelId id = ModelNamed(command.words.at(0));
  const std::vector<std::string> replicas = absl::StrSplit(command.Key("replicas", "1"), "..");
  ModelSpec& spec = models_[id.value];
  spec.replicas_min = std::stoi(replicas.front());
  spec.replicas_max = std::stoi(replicas.back());
  Step(ScaleRequested{id, spec.replicas_min, spec.replicas_max, command.Key("reason", "")});
}

void ScenarioEnv::AddModel(const Command& command) {
  models_.push_back(SpecFrom(command));
  Step(ModelConfigured{models_.back()});
}

ModelSpec ScenarioEnv::SpecFrom(const Command& command) {
  ModelSpec spec;
  spec.name = command.words.at(0);
  if (command.keys.contains("alias")) spec.aliases = {command.keys.at("alias")};
  const std::string tp = command.Key("tp", "1");
  spec.tensor_parallel = tp == "auto" ? 0 : std::stoi(tp);
  const std::vector<std::string> replicas = absl::StrSplit(command.Key("replicas", "1"), "..");
  spec.replicas_min = std::stoi(replicas.front());
  spec.replicas_max = std::stoi(replicas.back());
  spec.max_model_len = std::stoi(command.Key("context", "1024"));
  spec.max_sequences = std::stoi(command.Key("seqs", "8"));
  spec.priority = std::stoi(command.Key("priority", "0"));
  for (int degree : {1, 2, 4}) {
    ShardCost cost;
    cost.tensor_parallel = degree;
    cost.static_bytes = {Quantity(command.Key("weights", "1GiB")) / degree};
    cost.kv_bytes_per_token = {Quantity(command.Key("kv", "64KiB")) / degree};
    spec.costs.push_back(cost);
  }
  return spec;
}

void ScenarioEnv::AddWorkers(const Command& command) {
  for (const std::string& name : std::vector<std::string>(absl::StrSplit(command.words.at(0), ','))) {
    DeviceSpec spec;
    spec.node = command.Key("host", "h0");
    spec.kind = command.Key("kind", "cpu");
    spec.model = command.Key("gpu", "");
    spec.numa_node = std::stoi(command.Key("numa", "-1"));
    for (const Named& named : workers_) spec.index += named.worker->spec().node == spec.node;
    spec.memory_total = {Quantity(command.Key("mem", "8GiB"))};
    spec.memory_budget = {Quantity(command.Key("budget", command.Key("mem", "8GiB")))};
    spec.memory_free = {Quantity(command.Key("free", command.Key("mem", "8GiB")))};
    if (command.keys.contains("uuid")) spec.uuid = command.keys.at("uuid");
    // links=UUID:NV:4/UUID:PHB
    for (const absl::string_view text : absl::StrSplit(command.Key("links", ""), '/', absl::SkipEmpty())) {
      const std::vector<std::string> parts = absl::StrSplit(text, ':');
      spec.links.push_back(
          {parts.at(0), placement::PathKindOf(parts.at(1)).value(), parts.size() > 2 ? std::stoi(parts[2]) : 0});
    }
    const Incarnation incarnation{workers_.size() + 1, 1};
    workers_.push_back({name, std::make_unique<ScenarioWorker>(spec, incarnation)});
    workers_.back().worker->set_numerics(command.Key("numerics", "sim"));
    Step(workers_.back().worker->Attach());
  }
}

void ScenarioEnv::Arrive(const Command& command) {
  RequestArrived event;
  event.request = RequestNamed(command.words.at(0));
  event.model = command.Key("model", "chat");
  event.prompt = {std::stoll(command.Key("prompt", "100"))};
  event.known_output = {std::stoll(command.Key("known", "0"))};
  if (command.keys.contains("max")) event.max_tokens = Tokens{std::stoll(command.keys.at("max"))};
  if (command.keys.contains("deadline")) event.deadline = Duration{Quantity(command.keys.at("deadline"))};
  event.priority = std::stoi(command.Key("priority", "0"));
  event.tenant = command.Key("tenant", "");
  event.bytes = {std::stoll(command.Key("bytes", "0"))};
  for (absl::string_view landmark : absl::StrSplit(command.Key("prefix", ""), ',', absl::SkipEmpty())) {
    event.prefix.push_back(std::stoull(std::string(landmark)));
  }
  Step(event);
}

void ScenarioEnv::RequestVerb(const Command& command) {
  const RequestId id = RequestNamed(command.words.at(0));
  if (command.verb == "cancel") {
    return Step(RequestCancelled{id, EnumNamed<CancelCause>(command.Key("cause", "client-left"))});
  }
  if (command.verb == "spoiled") return Step(RequestSpoiled{id, command.Key("message", "a token is missing")});
  const Request* request = std::as_const(*core_).state().Find(id);
  if (request == nullptr) throw std::invalid_argument("no such request");
  const Attempt attempt{
      request->attempt.leader,
      static_cast<uint32_t>(std::stoul(command.Key("attempt", absl::StrCat(request->attempt.counter))))};
  const Tokens tokens{std::stoll(command.Key("tokens", "0"))};
  if (command.verb == "stopped") return Step(RequestStopped{id, attempt, tokens});
  if (command.verb == "computed") return Step(RequestComputed{id, attempt});
  if (command.verb == "preempted") return Step(RequestPreempted{id, attempt});
  ScenarioWorker* worker = WorkerOf(id);
  if (command.verb == "started") {
    if (worker != nullptr) worker->work().at(id).started = true;
    return Step(RequestStarted{id, attempt, {}, {std::stoll(command.Key("output", "0"))}});
  }
  if (worker != nullptr) worker->work().erase(id);
  Step(RequestEnded{id, attempt, EnumNamed<EndedHow>(command.Key("how", "stopped")), tokens,
                    command.Key("message", "")});
}

void ScenarioEnv::WorkerVerb(const Command& command) {
  const std::string& verb = command.verb;
  const std::string& name = command.words.at(0);
  if (verb == "cordon") return Step(CordonRequested{Device(name), command.Key("reason", "")});
  if (verb == "uncordon") return Step(UncordonRequested{Device(name)});
  if (verb == "undrain") return Step(UndrainRequested{Device(name)});
  ScenarioWorker& worker = Worker(name);
  Named& named = *std::find_if(workers_.begin(), workers_.end(), [&](const Named& n) { return n.name == name; });
  if (verb == "freeze" || verb == "thaw") {
    named.frozen = verb == "freeze";
  } else if (verb == "detach") {
    worker.CloseStream();
    Step(WorkerDetached{worker.device(), worker.incarnation(), command.Has("gone"), command.Key("why", "")});
  } else if (verb == "return") {
    named.frozen = false;
    Step(worker.Attach(core_->state().leader_epoch));
  } else if (verb == "restart") {
    named.frozen = false;
    worker.Restart({worker.incarnation().hi, static_cast<uint64_t>(++named.lives)});
    Step(worker.Attach(core_->state().leader_epoch));
  } else if (verb == "impostor") {
    WorkerAttached second;
    second.device = worker.spec();
    second.incarnation = {worker.incarnation().hi, 99};
    Step(second);
  } else if (verb == "fail") {
    worker.FailGroup(Group(command.words.at(1)), EnumNamed<GroupFailure>(command.words.at(2)),
                     command.Key("message", ""));
    while (worker.HasAnswer()) Step(worker.TakeAnswer());
  } else if (verb == "free-blocks") {
    worker.set_free_blocks(std::stoi(command.words.at(1)));
  } else if (verb == "step") {
    worker.set_step(Quantity(command.words.at(1)), std::stoll(command.Key("tokens", "1")));
  } else if (verb == "stand-still") {
    worker.set_standstill({command.Has("steps"), command.Has("progress"), command.Has("busy")});
  } else if (verb == "health") {
    Step(HealthReported{worker.device(), worker.incarnation(), command.words.at(1), command.Key("message", ""),
                        command.Has("lasting"), command.Has("cleared")});
  } else if (verb == "link") {
    worker.set_link(Worker(command.words.at(1)).device(), std::stoll(command.words.at(2)) * 1000000);
  } else {
    worker.set_memory_free({Quantity(command.words.at(1))});
  }
}

void ScenarioEnv::Drain(const Command& command) {
  DrainRequested event;
  event.operation = {std::stoull(command.Key("op", "1"))};
  if (command.words.at(0)[0] == 'g') {
    event.group = Group(command.words[0]);
  } else {
    for (absl::string_view name : absl::StrSplit(command.words[0], ','))
      event.devices.push_back(Device(std::string(name)));
  }
  event.reason = command.Key("reason", "");
  event.deadline = {Quantity(command.Key("deadline", "0"))};
  event.on_deadline = EnumNamed<OnDeadline>(command.Key("on", "migrate"));
  event.force = command.Has("force");
  Step(event);
}

void ScenarioEnv::Settle(bool quiet) {
  quiet_ = quiet;
  for (bool any = true; any;) {
    any = false;
    for (Named& named : workers_) {
      if (named.frozen || !named.worker->HasAnswer()) continue;
      any = true;
      const Event event = named.worker->TakeAnswer();
      Say(absl::StrCat("recv ", named.name, " ", Format(event)));
      Step(event);
    }
  }
  quiet_ = false;
}

void ScenarioEnv::Tick(Duration duration) {
  const Instant end = now_ + duration;
  Instant beat = now_ + kHeartbeat;
  while (now_ < end) {
    now_ = std::min({end, beat, core_->NextDeadline()});
    if (now_ == beat) {
      beat = beat + kHeartbeat;
      for (Named& named : workers_) {
        if (named.worker->attached() && !named.frozen) Step(named.worker->Heartbeat());
      }
    }
    if (core_->NextDeadline() <= now_) Step(Ticked{});
  }
}

void ScenarioEnv::Explain(const std::string& subject) {
  absl::StatusOr<std::vector<std::string>> lines;
  static const std::regex kRequest("r\\d+"), kGroup("g[\\d.]+");
  if (std::regex_match(subject, kRequest)) {
    lines = core_->ExplainRequest(RequestNamed(subject));
  } else if (std::regex_match(subject, kGroup)) {
    lines = core_->ExplainGroup(Group(subject));
  } else {
    lines = core_->ExplainModel(subject);
  }
  if (!lines.ok()) return Say(std::string(lines.status().message()));
  for (const std::string& line : *lines) Say(line);
}

void ScenarioEnv::Show(const std::string& what) {
  const ClusterState& state = core_->state();
  if (what == "devices") {
    for (const core::Device& device : state.devices) {
      Say(absl::StrCat(device.spec.Name(), " ", Words(device.state), device.suspect ? " suspect" : "",
                       device.cordoned ? " cordoned" : "", device.reason.empty() ? "" : ": ", device.reason));
    }
  } else if (what == "kept") {
    for (const auto& [name, device] : kept_.devices()) {
      Say(absl::StrCat(name, device.cordoned ? " cordoned" : "", device.drained ? " drained" : "",
                       device.quarantined ? " quarantined" : "", device.reason.empty() ? "" : ": ", device.reason));
    }
    for (const auto& [id, drain] : kept_.drains()) {
      Say(absl::StrCat("drain op", id.value, " of ",
                       drain.asked.group.has_value() ? Name(*drain.asked.group) : absl::StrJoin(drain.devices, " "),
                       ", ", Words(drain.deadline - now_), " left", drain.accepted ? "" : ", not decided"));
    }
  } else if (what == "links") {
    for (const auto& [pair, link] : state.links) {
      const bool known = link.measured_at != kNever;
      Say(absl::StrCat(Name(state, link.a), " - ", Name(state, link.b), " ",
                       known ? absl::StrCat(link.bytes_per_second / 1000000, " MB/s ", link.small_ns, " ns")
                             : std::string("not measured"),
                       link.why_not.empty() ? "" : ", ", link.why_not));
    }
  } else if (what == "groups") {
    for (const auto& [id, group] : state.groups) {
      Say(absl::StrCat(Name(id), " ", Words(group.state), " of ", Name(state.At(group.model)), " on ",
                       List(state, DevicesOf(group)), ", ", group.requests.size(), " requests, ",
                       group.kv.Booked().value, "+", group.kv.correction.value, " of ", group.kv.limit.value,
                       " tokens"));
    }
  } else if (what == "homes") {
    for (const auto& [serial, request] : state.requests) {
      if (request->home.value != 0) Say(absl::StrCat(Name(request->id), " waits for ", Name(request->home)));
    }
    Say(absl::StrCat("homes: ", state.counters.homes_reached, " reached, ", state.counters.homes_given_up,
                     " given up, ", state.counters.homes_left, " left"));
  } else if (what == "requests") {
    const auto say = [&](const Request& request) {
      Say(absl::StrCat(
          Name(request.id), " ", Words(request.state),
          request.HoldsBooking() ? absl::StrCat(" on ", Name(request.group), " booked ", request.booked.value) : "",
          request.outcome == Reason::kNone ? "" : absl::StrCat(" ", Words(request.outcome))));
    };
    for (const auto& [serial, request] : state.requests) say(*request);
    for (const auto& request : state.ended) say(*request);
  } else {
    for (const Model& model : state.models) {
      Say(absl::StrCat(Name(model), " ", state.ReadyReplicas(model), "/", state.Wanted(model), " ready, ",
                       model.queue.size(), " waiting", model.waits_for.empty() ? "" : "; ", model.waits_for));
    }
  }
}

void ScenarioEnv::Step(const Event& event) {
  const uint64_t stale = core_->state().counters.Stale();
  kept_.Ask(now_, event, core_->state());
  const Actions actions = core_->Step(now_, event);
  std::vector<DrainRequested> asked;
  for (const Action& action : actions) {
    if (const auto* drain = std::get_if<AskDrain>(&action)) {
      asked.push_back({{++last_asked_}, {drain->device}, std::nullopt, drain->reason, drain->deadline});
    }
    for (Named& named : workers_) named.worker->Obey(action, models_);
    kept_.Take(now_, action);
    if (const auto* assign = std::get_if<AssignRequest>(&action)) {  // the prompt travels beside the action
      const Request* request = std::as_const(*core_).state().Find(assign->request);
      if (ScenarioWorker* worker = WorkerOf(assign->request); worker != nullptr && request != nullptr) {
        worker->work().at(assign->request).prompt = request->prompt;
      }
    }
    if (const auto* tell = std::get_if<Tell>(&action)) {
      Say(absl::StrCat("state ", tell->subject, " ", tell->text));
    } else if (!IsForTheStore(action)) {
      Say(absl::StrCat("send ", Format(action)));
    }
  }
  if (core_->state().counters.Stale() != stale) Say("note ignored: it is about what is no more");
  for (const std::string& violation : CheckInvariants(core_->state())) Say(absl::StrCat("VIOLATION ", violation));
  for (const DrainRequested& drain : asked) Step(drain);
}

void ScenarioEnv::Say(const std::string& line) {
  if (quiet_ && !absl::StartsWith(line, "VIOLATION")) return;
  absl::StrAppend(&output_, Readable(line), "\n");
}

std::string ScenarioEnv::Readable(std::string line) const {
  for (const Named& named : workers_) {
    const std::string name = named.worker->spec().Name();
    for (size_t at = line.find(name); at != std::string::npos; at = line.find(name, at + named.name.size())) {
      line.replace(at, name.size(), named.name);
    }
  }
  // Ids in their written forms, one pattern at a time.
  const auto replace = [&](const std::regex& pattern, auto&& text_of) {
    std::string result;
    auto from = line.cbegin();
    for (std::sregex_iterator it(line.begin(), line.end(), pattern), end; it != end; ++it) {
      result.append(from, line.cbegin() + it->position());
      result += text_of(*it);
      from = line.cbegin() + it->position() + it->length();
    }
    line = result.append(from, line.cend());
  };
  static const std::regex kGroupName(R"(groups/(\d+)\.(\d+))"), kGroup(R"(\bg1\.(\d+))"), kDevice(R"(\bd(\d+)\b)");
  static const std::regex kHex(R"((?:requests/)?\b([0-9a-f]{16})([0-9a-f]{16})\b)"), kModel(R"(\bmodel=m(\d+))");
  replace(kGroupName, [](const std::smatch& m) {
    return m[1] == "1" ? absl::StrCat("g", m[2].str()) : absl::StrCat("g", m[1].str(), ".", m[2].str());
  });
  replace(kGroup, [](const std::smatch& m) { return "g" + m[1].str(); });
  replace(kModel, [&](const std::smatch& m) { return "model=" + models_[std::stoul(m[1])].name; });
  replace(kDevice, [&](const std::smatch& m) {
    for (const Named& named : workers_) {
      if (named.worker->device().value == std::stoul(m[1]) && core_->state().devices.size() > std::stoul(m[1]))
        return named.name;
    }
    return m[0].str();
  });
  replace(kHex, [](const std::smatch& m) {
    const uint64_t hi = std::stoull(m[1], nullptr, 16), lo = std::stoull(m[2], nullptr, 16);
    return hi == 0 ? absl::StrCat("r", lo) : absl::StrCat("process-", hi, ".", lo);
  });
  return line;
}

ScenarioWorker& ScenarioEnv::Worker(const std::string& name) {
  for (Named& named : workers_) {
    if (named.name == name) return *named.worker;
  }
  throw std::invalid_argument(absl::StrCat("no worker '", name, "'"));
}

ScenarioWorker* ScenarioEnv::WorkerOf(RequestId id) {
  for (Named& named : workers_) {
    if (named.worker->work().contains(id)) return named.worker.get();
  }
  return nullptr;
}

DeviceId ScenarioEnv::Device(const std::string& name) {
  const auto& names = core_->state().device_names;
  const auto it = names.find(Worker(name).spec().Name());
  return it == names.end() ? DeviceId{9999} : it->second;
}

GroupId ScenarioEnv::Group(const std::string& name) const {
  const std::vector<std::string> parts = absl::StrSplit(name.substr(1), '.');
  const uint64_t leader = parts.size() > 1 ? std::stoull(parts[0]) : 1;
  return {leader << 32 | std::stoull(parts.back())};
}

RequestId ScenarioEnv::RequestNamed(const std::string& name) { return {0, std::stoull(name.substr(1))}; }

}  // namespace tandem::core
