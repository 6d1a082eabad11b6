#include "tests/sim/sim_worker.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "scheduler/ids.h"
#include "tests/sim/sim_executor.h"
#include "worker/translate.h"

namespace tandem::sim {
namespace {

constexpr uint32_t kProtocol = 1;
constexpr int64_t kParkTime = 50 * kMs;  // Until the same program has started once more.
constexpr int64_t kWelcomeTimeout = 5 * kSecond;
constexpr int64_t kLeastWait = 100 * kMs;
constexpr int64_t kMostWait = 1000 * kMs;
constexpr int64_t kLookAfter = 100 * kMs;
constexpr int64_t kStuckLook = 20 * kMs;
constexpr int kCommandsPerTurn = 256;
constexpr int kMostIdleTurns = 10000;

// As the link reads them: what another attempt, as things stand, will get again.
bool IsRefusal(const absl::Status& status) {
  return status.code() == absl::StatusCode::kFailedPrecondition || status.code() == absl::StatusCode::kInvalidArgument;
}

}  // namespace

SimWorker::SimWorker(Place place, WorkerSurroundings surroundings)
    : place_(std::move(place)), around_(std::move(surroundings)), world_(around_.world) {}

SimWorker::~SimWorker() {
  if (life_) life_->process->Kill();
}

std::string SimWorker::name() const { return absl::StrCat("nodes/", place_.node, "/devices/", place_.index); }

core::Incarnation SimWorker::incarnation() const { return alive() ? life_->incarnation : core::Incarnation{}; }

std::vector<worker::ShardStatus> SimWorker::Shards() const {
  return alive() ? life_->window.Status() : std::vector<worker::ShardStatus>();
}

std::vector<worker::HeldRequest> SimWorker::Held(const worker::GroupRef& group) const {
  return alive() ? life_->window.Held(group) : std::vector<worker::HeldRequest>();
}

// ---- life and death -------------------------------------------------------------------------------------------------

void SimWorker::Start() {
  if (alive()) return;
  life_ = std::make_shared<Life>();
  Life& life = *life_;
  life.incarnation = {(uint64_t{place_.index} + 1) << 32 | (place_.node.back() & 0xff), ++lives_};
  life.process = std::make_shared<Process>(world_);
  Life* const raw = &life;
  life.engine = std::make_unique<worker::Engine>(
      worker::Engine::Options{
          .services = {.load_model = [this, raw](const worker::LoadSpec& spec,
                                                 worker::Communicator* c) { return Load(*raw, spec, c); },
                       .free_bytes = [this, raw] { return place_.memory_bytes - raw->used_bytes; },
                       .private_bytes = [raw] { return raw->used_bytes; }},
          .join =
              [this, raw](const worker::GroupIdentity& identity, const std::atomic<bool>* cancelled) {
                return around_.meetings->Join(identity, raw->process, cancelled);
              },
          .report = [this, raw](worker::Report report) { Report(*raw, std::move(report)); },
          .clock = [this] { return world_->steady(); },
          .on_entering =
              [this, raw] {
                for (const worker::Command& later : raw->mailbox) raw->reach.Heed(later, world_->steady());
              }},
      &life.reach, &life.window);
  // The body holds its life: a process that was killed comes to its end before its life does.
  life.process->Start([this, life = life_.get()] { Run(*life); });
  Dial(life_);
  LookAfterEngine(life_);
}

void SimWorker::Run(Life& life) {
  Process& process = *life.process;
  int idle_turns = 0;
  int64_t last = 0;
  while (!process.dead() && !life.engine->stopped()) {
    const int64_t patience = std::chrono::microseconds(life.engine->Patience()).count();
    if (life.mailbox.empty() && patience > 0) process.Sleep(patience);
    for (int taken = 0; taken < kCommandsPerTurn && !life.mailbox.empty() && !process.dead(); ++taken) {
      worker::Command command = std::move(life.mailbox.front());
      life.mailbox.pop_front();
      life.engine->Handle(std::move(command));
      if (life.engine->stopped()) return;
    }
    if (process.dead()) return;
    life.engine->Advance();
    idle_turns = world_->now() == std::exchange(last, world_->now()) ? idle_turns + 1 : 0;
    if (idle_turns > kMostIdleTurns) return world_->Fail(absl::StrCat(name(), " is busy with nothing"));
  }
}

void SimWorker::Crash(int64_t down_us) {
  if (!alive()) return;
  if (life_->stream) life_->stream->CloseByWorker();
  around_.meetings->NoteDeath(life_->process);
  End(down_us);
}

void SimWorker::End(int64_t down_us) {
  const Alive life = std::exchange(life_, nullptr);
  life->process->Kill();
  life->stream = nullptr;
  parked_ = false;
  world_->After(down_us, [self = weak_from_this()] {
    if (auto worker = self.lock()) worker->Start();
  });
}

void SimWorker::StopInOrder(int64_t down_us) {
  if (!alive() || frozen()) return;
  const Alive life = life_;
  life->leaving = true;
  if (life->stream) {
    v1::AttachRequest message;
    message.mutable_leaving()->set_reason("told to stop");
    life->stream->SendUp(std::move(message));
  }
  Post(*life, worker::Stop{"told to stop"});
  After(life, 400 * kMs, [this, down_us](const Alive&) { Crash(down_us); });
}

void SimWorker::Freeze() {
  if (alive()) life_->process->Freeze();
}

void SimWorker::Thaw() {
  if (!frozen()) return;
  const Alive life = life_;
  life->process->Thaw();
  for (auto& what : std::exchange(life->while_frozen, {})) what();
}

void SimWorker::CutStream() {
  if (alive() && life_->stream) life_->stream->Break();
}

void SimWorker::CutTokens() {
  if (alive() && life_->stream) life_->stream->BreakTokens();
}

void SimWorker::Partition(bool up, bool down) {
  up_blocked_ |= up;
  down_blocked_ |= down;
  if (alive() && life_->stream) life_->stream->Block(up, down);
}

void SimWorker::Heal() {
  up_blocked_ = down_blocked_ = false;
  if (alive() && life_->stream) life_->stream->Unblock();
}

bool SimWorker::Later(Life& life, std::function<void()> what) {
  if (!life.process->frozen()) return false;
  life.while_frozen.push_back(std::move(what));
  return true;
}

void SimWorker::After(const Alive& life, int64_t us, std::function<void(const Alive&)> what) {
  world_->After(us, [self = weak_from_this(), weak = std::weak_ptr(life), what = std::move(what)] {
    const auto worker = self.lock();
    const Alive life = weak.lock();
    if (!worker || !life || life != worker->life_) return;
    if (worker->Later(*life, [weak, what] {
          if (const Alive thawed = weak.lock()) what(thawed);
        })) {
      return;
    }
    what(life);
  });
}

// ---- the engine's surroundings --------------------------------------------------------------------------------------

void SimWorker::Post(Life& life, worker::Command command) {
  life.reach.Heed(command, world_->steady());
  life.mailbox.push_back(std::move(command));
  life.reach.WakeFollower();
  life.process->Wake();
}

absl::StatusOr<std::unique_ptr<worker::Executor>> SimWorker::Load(Life& life, const worker::LoadSpec& spec,
                                                                  worker::Communicator* communicator) {
  life.process->Spend(place_.load_us * slow_);
  if (life.process->dead()) return absl::AbortedError("killed");
  const auto model = std::find_if(around_.models->begin(), around_.models->end(),
                                  [&](const core::ModelSpec& m) { return m.name == spec.model; });
  if (model == around_.models->end()) return absl::InvalidArgumentError("no such model");
  for (const core::ShardCost& cost : model->costs) {
    if (cost.tensor_parallel != communicator->size()) continue;
    if (life.used_bytes + cost.static_bytes.value > place_.memory_bytes) {
      return absl::ResourceExhaustedError("the weights do not fit");
    }
    return std::make_unique<SimExecutor>(
        communicator, cost.kv_bytes_per_token.value * kBlockTokens, cost.static_bytes.value, model->max_model_len,
        SimExecutor::Doors{
            .before_step = [this, &life](int64_t tokens) { return SpendStep(life, tokens); },
            .broken = [this](const std::string& what) { world_->Fail(absl::StrCat(name(), ": ", what)); },
            .used_bytes = &life.used_bytes});
  }
  return absl::InvalidArgumentError("no such degree");
}

void SimWorker::Lie(int64_t us, bool busy) {
  Stick(us);
  lies_until_ = stuck_until_;
  claims_busy_ = busy;
}

absl::Status SimWorker::SpendStep(Life& life, int64_t tokens) {
  life.process->Spend((place_.step_us + tokens * place_.per_token_us) * slow_);
  while (world_->now() < stuck_until_ && !life.process->dead()) life.process->Spend(kStuckLook);
  if (life.process->dead()) return absl::AbortedError("killed");
  if (std::exchange(fail_next_step_, false)) return absl::InternalError("the device failed");
  return absl::OkStatus();
}

void SimWorker::Report(Life& life, worker::Report report) {
  if (life.process->dead()) return;
  if (const auto* step = std::get_if<worker::StepDone>(&report)) {
    if (!life.welcomed || step->line != life.line || !life.stream) return;
    if (life.stream->tokens_broken()) {
      // What this stream did not bring comes again on the next one.
      life.stream->RenewTokens();
      ++life.line;
      life.replay_wanted = true;
      return;
    }
    life.stream->SendTokens(
        worker::TokensMessage(*step, world_->steady(), scheduler::ToBytes(life.incarnation.hi, life.incarnation.lo)));
  } else if (const auto* cache = std::get_if<worker::CacheChanged>(&report)) {
    if (!life.stream) return;
    for (v1::AttachRequest& message : worker::CacheMessages(*cache)) life.stream->SendUp(std::move(message));
  } else if (life.stream) {
    life.stream->SendUp(worker::ControlMessage(report));
  }
}

// ---- the link -------------------------------------------------------------------------------------------------------

void SimWorker::Dial(const Alive& life) {
  AttachStream::WorkerEnd end;
  auto self = weak_from_this();
  auto from = std::make_shared<std::weak_ptr<AttachStream>>();
  end.command = [self, weak = std::weak_ptr(life), from](const v1::AttachResponse& message) {
    const auto worker = self.lock();
    const Alive life = weak.lock();
    if (!worker || !life || life != worker->life_) return;
    auto take = [worker = worker.get(), weak, stream = from->lock(), message] {
      if (const Alive life = weak.lock()) worker->OnCommand(life, stream.get(), message);
    };
    if (!worker->Later(*life, take)) take();
  };
  end.over = [self, weak = std::weak_ptr(life), from](const absl::Status& why) {
    const auto worker = self.lock();
    const Alive life = weak.lock();
    if (!worker || !life || life != worker->life_) return;
    auto take = [worker = worker.get(), weak, stream = from->lock(), why] {
      if (const Alive life = weak.lock()) worker->OnOver(life, stream.get(), why);
    };
    if (!worker->Later(*life, take)) take();
  };
  std::shared_ptr<AttachStream> stream = around_.dial(life->incarnation, std::move(end));
  if (!stream) return DialAgain(life);
  *from = stream;
  life->stream = stream;
  stream->Block(up_blocked_, down_blocked_);
  stream->Open(MakeHello(*life));
  After(life, kWelcomeTimeout, [this, stream](const Alive& life) {
    if (life->stream != stream || life->welcomed) return;
    stream->CloseByWorker();
    OnOver(life, stream.get(), absl::DeadlineExceededError("no welcome"));
  });
}

void SimWorker::DialAgain(const Alive& life) {
  const int64_t wait = life->wait_us / 2 + world_->random().Below(life->wait_us / 2 + 1);
  life->wait_us = std::min(life->wait_us * 2, kMostWait);
  After(life, wait, [this](const Alive& life) { Dial(life); });
}

v1::Hello SimWorker::MakeHello(Life& life) const {
  v1::Hello hello;
  hello.set_protocol_min(kProtocol);
  hello.set_protocol_max(kProtocol);
  hello.set_build("sim");
  hello.set_incarnation(scheduler::ToBytes(life.incarnation.hi, life.incarnation.lo));
  hello.set_numerics("sim");
  hello.set_rendezvous(name());
  hello.set_highest_leader_epoch(life.highest_leader);
  hello.set_parked(parked_);
  v1::DeviceFacts& facts = *hello.mutable_device();
  facts.set_node(place_.node);
  facts.set_index(place_.index);
  facts.set_kind("sim");
  facts.set_model("sim");
  facts.set_uuid(name());
  facts.set_numa_node(-1);
  facts.set_memory_total_bytes(place_.memory_bytes);
  facts.set_memory_free_bytes(place_.memory_bytes - life.used_bytes);
  facts.set_memory_process_bytes(life.used_bytes);
  facts.set_memory_utilization(1.0);
  facts.set_threads(1);
  for (const worker::ShardStatus& status : life.window.Status()) {
    *hello.add_shards() = worker::HeldShardFrom(status, life.window.Held(status.group));
  }
  return hello;
}

void SimWorker::OnCommand(const Alive& life, const AttachStream* from, const v1::AttachResponse& message) {
  if (life->stream.get() != from) return;
  if (message.has_welcome()) {
    const v1::Welcome& welcome = message.welcome();
    if (welcome.leader_epoch() < life->highest_leader) {
      world_->Fail(absl::StrCat("a scheduler of leader epoch ", welcome.leader_epoch(), " welcomed ", name(),
                                ", which obeys ", life->highest_leader));
    }
    life->welcomed = true;
    life->highest_leader = welcome.leader_epoch();
    life->heartbeat_us = welcome.heartbeat_ms() * kMs;
    life->orphan_grace_us = welcome.orphan_grace_ms() * kMs;
    life->wait_us = kLeastWait;
    Post(*life, worker::ObeyLeader{.leader_epoch = welcome.leader_epoch(),
                                   .retention = std::chrono::milliseconds(welcome.retention_ms())});
    Post(*life, worker::ReplayEverything{++life->line});
    return Beat(life, life->stream);
  }
  if (message.has_measure_link()) return OnMeasure(life, message.measure_link());
  if (message.has_park()) {
    world_->Count("parked");
    Crash(kParkTime);
    parked_ = true;
    return;
  }
  if (message.has_form_group()) parked_ = false;
  absl::StatusOr<std::optional<worker::Command>> command = worker::CommandFrom(message, world_->steady());
  if (!command.ok()) return world_->Fail(absl::StrCat(name(), " cannot read a command: ", command.status().message()));
  if (command->has_value()) Post(*life, **std::move(command));
}

void SimWorker::OnMeasure(const Alive& life, const v1::MeasureLink& measure) {
  if (measure.rank() != 0) return;
  v1::AttachRequest answer;
  v1::LinkMeasured& measured = *answer.mutable_link_measured();
  measured.set_peer_uuid(measure.peer_uuid());
  measured.set_probe(measure.probe());
  if (world_->random().Chance(200)) {
    measured.set_error("a request came");
  } else {
    measured.set_small_message_ns(20000);
    measured.set_bandwidth_bytes_per_s(5000000000 + world_->random().Below(2) * 20000000000);
  }
  After(life, 50 * kMs, [answer = std::move(answer)](const Alive& life) {
    if (life->stream) life->stream->SendUp(answer);
  });
}

void SimWorker::OnOver(const Alive& life, const AttachStream* from, const absl::Status& why) {
  if (life->stream.get() != from) return;
  life->stream = nullptr;
  life->replay_wanted = false;
  if (std::exchange(life->welcomed, false) && life->lost_at == 0) life->lost_at = world_->now();
  if (IsRefusal(why)) {
    world_->Count("worker refused");
    around_.meetings->NoteDeath(life->process);
    return End(500 * kMs);
  }
  DialAgain(life);
}

void SimWorker::Beat(const Alive& life, const std::shared_ptr<AttachStream>& on) {
  if (life->stream != on || !life->welcomed) return;
  life->lost_at = 0;
  life->orphaned = false;
  v1::AttachRequest message;
  v1::Heartbeat& beat = *message.mutable_heartbeat();
  beat.set_sequence(++life->beats);
  beat.set_memory_free_bytes(place_.memory_bytes - life->used_bytes);
  beat.set_memory_process_bytes(life->used_bytes);
  for (const worker::ShardStatus& status : life->window.Status()) {
    v1::ShardLoad& load = *beat.add_shards();
    load = worker::LoadFrom(status);
    if (world_->now() >= lies_until_) continue;
    load.set_busy(claims_busy_);
    if (claims_busy_) load.set_progress(claimed_ = std::max(claimed_, load.progress()) + 1);
  }
  life->stream->SendUp(std::move(message));
  if (std::exchange(life->replay_wanted, false)) Post(*life, worker::ReplayEverything{life->line});
  After(life, life->heartbeat_us, [this, on](const Alive& life) { Beat(life, on); });
}

void SimWorker::LookAfterEngine(const Alive& life) {
  if (life->lost_at != 0 && !life->orphaned && world_->now() - life->lost_at > life->orphan_grace_us) {
    life->orphaned = true;
    world_->Count("orphaned");
    Post(*life, worker::AbortEverything{"no scheduler came"});
  }
  const int64_t overdue = std::chrono::microseconds(life->reach.Overdue(world_->steady())).count();
  if (overdue > around_.abort_overdue_us) {
    world_->Count("abort hung");
    return Crash(500 * kMs);
  }
  After(life, kLookAfter, [this](const Alive& life) { LookAfterEngine(life); });
}

}  // namespace tandem::sim
