#include "tests/sim/sim_scheduler.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "base/prefix_hash/prefix_hash.h"
#include "scheduler/core/format.h"
#include "scheduler/core/invariants.h"
#include "scheduler/ids.h"
#include "scheduler/translate.h"
#include "scheduler/validate_request.h"

namespace tandem::sim {
namespace {

constexpr int64_t kRouterPeriod = 20 * kMs;

// It speaks of an attempt that is no more, while an engine has the request in another one.
bool IsLateWord(const core::Event& event, const core::ClusterState& state) {
  const auto late = [&](const auto& word) {
    const core::Request* request = state.Find(word.request);
    return request != nullptr && request->Placed() && request->attempt != word.attempt;
  };
  if (const auto* started = std::get_if<core::RequestStarted>(&event)) return late(*started);
  if (const auto* computed = std::get_if<core::RequestComputed>(&event)) return late(*computed);
  if (const auto* preempted = std::get_if<core::RequestPreempted>(&event)) return late(*preempted);
  if (const auto* stopped = std::get_if<core::RequestStopped>(&event)) return late(*stopped);
  if (const auto* ended = std::get_if<core::RequestEnded>(&event)) return late(*ended);
  return false;
}

}  // namespace

SimScheduler::SimScheduler(World* world, const Setup* setup, const scheduler::ModelCatalog* catalog,
                           uint64_t leader_epoch, scheduler::store::Store* disk, Promises* promises,
                           std::function<void(const core::Core&)> after_step)
    : world_(world),
      setup_(setup),
      catalog_(catalog),
      leader_epoch_(leader_epoch),
      after_step_(std::move(after_step)),
      store_({.retention = core::Seconds(10)}),
      reattachment_(&store_, leader_epoch),
      disk_(disk),
      promises_(promises),
      snapshot_(*disk->Load()),
      operations_(leader_epoch, snapshot_),
      intents_([this](scheduler::store::Batch batch) { Write(std::move(batch)); }, &operations_, snapshot_),
      runner_(
          {catalog, &registry_, &store_, &events_, &operations_, &intents_},
          {.prefix_cache = setup->prefix_cache, .leader_epoch = leader_epoch},
          [this](core::Event event) { Post(std::move(event)); }, [](const core::ClusterState&) {},
          [this] { reattachment_.OnSettled(); }),
      core_(setup->options),
      router_(catalog, &store_, &reattachment_, {.detach_grace = core::Seconds(2), .reattach_grace = core::Seconds(5)},
              {[this](core::Event event) { Post(std::move(event)); },
               [](std::vector<std::shared_ptr<scheduler::RequestStream>>) {},
               [this](core::DeviceId device, v1::AttachResponse command) {
                 if (const auto link = registry_.Find(device)) link->Send(std::move(command));
               },
               [this](core::Incarnation incarnation) { return registry_.DeviceOf(incarnation); }}) {}

void SimScheduler::After(int64_t us, std::function<void()> what) {
  world_->After(us, [weak = weak_from_this(), what = std::move(what)] {
    const auto self = weak.lock();
    if (self && self->alive_) what();
  });
}

void SimScheduler::Start() {
  auto recollection =
      scheduler::Recall(snapshot_, leader_epoch_, setup_->expected_devices, absl::FromUnixMicros(world_->now()));
  Post(std::move(recollection.started));
  core::ModelId id;
  for (const scheduler::ServedModelPtr& model : catalog_->models()) {
    Post(core::ModelConfigured{model->spec});
    if (catalog_->FindNamed(model->spec.name) != model) Post(core::UndeployRequested{id, "before this run"});
    ++id.value;
  }
  for (scheduler::Unfinished& again : recollection.unfinished) {
    for (core::Event& event : again.events) Post(std::move(event));
  }
  TurnRouter();
}

void SimScheduler::Crash() {
  alive_ = false;
  if (unwritten_ > 0) world_->Count("writes lost", unwritten_);
  for (const auto& [number, stream] : std::exchange(streams_, {})) stream->VanishScheduler();
  for (const auto& [number, call] : std::exchange(calls_, {})) call->Vanish();
}

// ---- the loop of the core -------------------------------------------------------------------------------------------

void SimScheduler::Post(core::Event event) {
  mailbox_.push_back(std::move(event));
  TurnSoon(world_->random().Below(setup_->core_lag_us));
}

void SimScheduler::Write(scheduler::store::Batch batch, std::function<void()> then) {
  written_at_ = std::max(written_at_, world_->now()) + world_->random().Below(setup_->disk_us + 1);
  ++unwritten_;
  After(written_at_ - world_->now(), [this, batch = std::move(batch), then = std::move(then)] {
    --unwritten_;
    (void)disk_->Commit(batch);
    if (then) then();
  });
}

// What was acknowledged before a crash is known once the workers are back.
void SimScheduler::CheckPromises() {
  const core::ClusterState& state = core_.state();
  if (promises_checked_ || !state.settled) return;
  promises_checked_ = true;
  for (core::OperationId promise : *promises_) {
    const bool deferred = std::any_of(state.deferred.begin(), state.deferred.end(),
                                      [&](const core::DrainRequested& asked) { return asked.operation == promise; });
    const bool posted = std::any_of(mailbox_.begin(), mailbox_.end(), [&](const core::Event& event) {
      const auto* asked = std::get_if<core::DrainRequested>(&event);
      return asked != nullptr && asked->operation == promise;
    });
    if (deferred || posted || state.drains.contains(promise)) continue;
    world_->Fail(absl::StrCat("drain ", promise.value, " was acknowledged and is forgotten"));
  }
}

void SimScheduler::TurnSoon(int64_t delay_us) {
  if (std::exchange(turn_due_, true)) return;
  After(delay_us, [this] {
    turn_due_ = false;
    Turn();
  });
}

void SimScheduler::Turn() {
  if (paused_) return;
  while (!mailbox_.empty() && !world_->failed()) {
    const core::Event event = std::move(mailbox_.front());
    mailbox_.pop_front();
    Step(event);
  }
  if (core_.NextDeadline() <= world_->instant()) Step(core::Ticked{});
  runner_.EndOfBatch(core_);
  const int64_t deadline = core_.NextDeadline().us;
  if (deadline <= world_->now()) return world_->Fail("the core wants to be woken and does not get on");
  if (deadline == core::kNever.us || deadline >= wake_at_) return;
  wake_at_ = deadline;
  After(deadline - world_->now(), [this, deadline] {
    if (wake_at_ == deadline) wake_at_ = INT64_MAX;
    Turn();
  });
}

void SimScheduler::Resume() {
  if (!std::exchange(paused_, false)) return;
  Turn();
  TurnRouter();
}

void SimScheduler::Step(const core::Event& event) {
  world_->Trace(core::Format(event));
  const bool late = IsLateWord(event, core_.state());
  const uint64_t stale = core_.state().counters.stale_attempts;
  const core::Actions actions = core_.Step(world_->instant(), event);
  if (late) world_->Count("late words");
  if (late && core_.state().counters.stale_attempts == stale) {
    world_->Fail("a word about an attempt that is no more was taken for one about the present");
  }
  for (const core::Action& action : actions) {
    world_->Trace(absl::StrCat("  ", core::Format(action)));
    Judge(action);
  }
  runner_.Run(world_->instant(), actions);
  for (const std::string& violation : core::CheckInvariants(core_.state())) world_->Fail(violation);
  CheckPromises();
  after_step_(core_);
}

// What no client and no worker may be told.
void SimScheduler::Judge(const core::Action& action) {
  const auto last_words = [&](core::RequestId id) {
    if (++told_[id].last_words > 1) world_->Fail(absl::StrCat("request ", scheduler::ToHex(id), " ended twice"));
  };
  if (const auto* fail = std::get_if<core::FailRequest>(&action)) {
    last_words(fail->request);
  } else if (const auto* complete = std::get_if<core::CompleteRequest>(&action)) {
    last_words(complete->request);
  } else if (const auto* assign = std::get_if<core::AssignRequest>(&action)) {
    Told& told = told_[assign->request];
    if (told.last_words > 0 || assign->attempt <= told.latest) {
      world_->Fail(absl::StrCat("request ", scheduler::ToHex(assign->request), " is assigned as attempt ",
                                assign->attempt.counter, " after ", told.latest.counter, " and ", told.last_words,
                                " last words"));
    }
    if (assign->attempt.counter > 1) world_->Count("attempts after the first");
    told.latest = assign->attempt;
  } else if (const auto* form = std::get_if<core::FormGroup>(&action)) {
    world_->Count("groups formed");
    for (core::DeviceId member : form->members) {
      const core::Device& device = core_.state().At(member);
      if (device.cordoned || !device.attached) {
        world_->Fail(absl::StrCat("group ", form->group.value, " is formed on ", device.spec.Name(), ", which is ",
                                  device.cordoned ? "cordoned" : "not here"));
      }
    }
    if (form->epoch.leader != leader_epoch_) world_->Fail("a group is formed under another leader's epoch");
  } else if (const auto* drain = std::get_if<core::ReportDrain>(&action)) {
    if (drain->done) world_->Count(drain->refused == core::Reason::kNone ? "drains done" : "drains refused");
    if (drain->done) promises_->erase(drain->operation);
  } else if (const auto* kept = std::get_if<core::KeepDrain>(&action)) {
    if (kept->outcome != core::DrainOutcome::kRunning) promises_->erase(kept->operation);
  } else if (std::holds_alternative<core::DropWorker>(action)) {
    world_->Count("workers fenced");
  }
}

void SimScheduler::TurnRouter() {
  if (paused_) return;
  router_.Turn(world_->instant());
  After(kRouterPeriod, [this] { TurnRouter(); });
}

// ---- workers --------------------------------------------------------------------------------------------------------

std::shared_ptr<AttachStream> SimScheduler::Accept(core::Incarnation incarnation, AttachStream::WorkerEnd end) {
  AttachStream::SchedulerEnd here;
  const uint64_t number = ++numbered_;
  here.hello = [this](const std::shared_ptr<AttachStream>& stream) {
    auto event = scheduler::WorkerAttachedFrom(stream->hello());
    if (!event.ok()) return stream->Close(event.status());
    if (stream->hello().highest_leader_epoch() > leader_epoch_) {
      return stream->Close(absl::FailedPreconditionError("this worker obeyed a later leader"));
    }
    registry_.Enter(stream);
    reattachment_.OnHello(stream->hello());
    Post(*std::move(event));
  };
  here.message = [this](const std::shared_ptr<AttachStream>& stream, const v1::AttachRequest& message) {
    if (message.has_leaving()) {
      stream->leaving = true;
      stream->leaving_why = message.leaving().reason();
      return;
    }
    auto event = scheduler::EventFrom(message, stream->device(), stream->incarnation());
    if (!event.ok()) return stream->Close(event.status());
    if (event->has_value()) Post(*std::move(*event));
  };
  here.tokens = [this](const v1::TokensRequest& message) { router_.Route(message); };
  here.over = [this, number](AttachStream& stream) {
    std::optional<core::DeviceId> device;
    if (registry_.Leave(stream, &device) && device) {
      Post(core::WorkerDetached{*device, stream.incarnation(), stream.leaving,
                                stream.leaving ? stream.leaving_why : "its stream ended"});
    }
    After(0, [this, number] { streams_.erase(number); });
  };
  here.welcome = [this] {
    v1::Welcome welcome;
    welcome.set_protocol(1);
    welcome.set_leader_epoch(leader_epoch_);
    welcome.set_heartbeat_ms(setup_->heartbeat_ms);
    welcome.set_orphan_grace_ms(setup_->orphan_grace_ms);
    welcome.set_retention_ms(10000);
    return welcome;
  };
  auto stream = std::make_shared<AttachStream>(world_, setup_->delay_us, incarnation, std::move(end), std::move(here));
  streams_[number] = stream;
  return stream;
}

// ---- clients --------------------------------------------------------------------------------------------------------

void SimScheduler::Generate(std::shared_ptr<SimCall> call, const v1::GenerateRequest& asked, int64_t deadline_us) {
  v1::GenerateRequest request = asked;
  if (!request.sampling().has_seed()) request.mutable_sampling()->set_seed(world_->random().Next());
  const scheduler::ServedModelPtr model = catalog_->Find(request.model());
  if (!model) return call->Refuse({scheduler::kModelNotFound, "no such model"});
  if (const auto error = scheduler::ValidateGenerate(request, model->limits)) return call->Refuse(*error);
  const uint64_t number = ++numbered_;
  calls_[number] = call;
  const size_t next = static_cast<size_t>(request.resume_token_ids_size());
  const auto read = [&](std::shared_ptr<scheduler::RequestStream> stream) {
    call->Read(std::move(stream), next, [this, number](const std::shared_ptr<scheduler::RequestStream>& stream) {
      calls_.erase(number);
      if (alive_ && stream) router_.ClientLeft(stream);
    });
  };
  if (!request.idempotency_key().empty()) {
    auto stream = store_.FindByKey(request.tenant(), request.idempotency_key());
    if (stream && stream->MayAttach()) {
      world_->Count("attached by key");
      return read(std::move(stream));
    }
  }
  const size_t prompt = static_cast<size_t>(request.token_ids().ids_size());
  if (const auto error = scheduler::ValidateLengths(request, prompt, model->limits)) return call->Refuse(*error);
  v1::AssignRequest payload;
  scheduler::FillAssignment(request, model->limits, &payload);
  *payload.mutable_prompt_ids() = request.token_ids().ids();
  payload.set_cache_salt(request.tenant());
  const int64_t bytes = static_cast<int64_t>(payload.SpaceUsedLong());
  const core::RequestId id{world_->random().Next(), world_->random().Next()};

  core::RequestArrived event;
  event.request = id;
  event.model = model->spec.name;
  event.prompt = {static_cast<int64_t>(prompt)};
  event.known_output = {request.resume_token_ids_size()};
  event.max_tokens = core::Tokens{request.stopping().max_tokens()};
  if (deadline_us > 0) event.deadline = core::Duration{deadline_us};
  event.priority = request.priority();
  event.tenant = request.tenant();
  event.bytes = {bytes};

  scheduler::RequestStream::Facts facts;
  facts.id = id;
  facts.model = model->spec.name;
  facts.model_revision = model->spec.revision;
  facts.tenant = request.tenant();
  facts.idempotency_key = request.idempotency_key();
  facts.prompt_tokens = static_cast<uint32_t>(prompt);
  facts.vocab_size = model->limits.vocab_size;
  facts.logprobs = request.has_logprobs();
  facts.seed = payload.sampling().seed();
  facts.stop.assign(request.stopping().stop().begin(), request.stopping().stop().end());
  facts.chunk_interval = core::Milliseconds(request.chunk_interval_ms());
  facts.arrived = world_->instant();
  facts.tokenizer = model->tokenizer;
  facts.known_output.assign(request.resume_token_ids().begin(), request.resume_token_ids().end());
  const auto stream = std::make_shared<scheduler::RequestStream>(std::move(facts), std::move(payload));
  store_.AddOrFind(stream);
  Post(std::move(event));
  read(stream);
}

void SimScheduler::Resume(std::shared_ptr<SimCall> call, const v1::ResumeRequest& request) {
  const uint64_t number = ++numbered_;
  calls_[number] = call;
  scheduler::Reattachment::Which which{.id = scheduler::RequestIdFromHex(request.request_id()),
                                       .tenant = request.tenant()};
  const size_t next = request.next_index();
  reattachment_.Await(std::move(which), [this, weak = weak_from_this(), number, call,
                                         next](std::shared_ptr<scheduler::RequestStream> stream) {
    const auto self = weak.lock();
    if (!self || !alive_) return;
    if (!stream || stream->abandoned()) {
      calls_.erase(number);
      return call->Refuse({scheduler::kResumeUnknown, "no such request"});
    }
    call->Read(std::move(stream), next, [this, number](const std::shared_ptr<scheduler::RequestStream>& stream) {
      calls_.erase(number);
      if (alive_ && stream) router_.ClientLeft(stream);
    });
  });
}

// ---- operators ------------------------------------------------------------------------------------------------------

const core::Device* SimScheduler::FindDevice(const std::string& name) const {
  const auto it = core_.state().device_names.find(name);
  return it == core_.state().device_names.end() ? nullptr : &core_.state().At(it->second);
}

void SimScheduler::Cordon(const std::string& name, bool cordon) {
  const core::Device* device = FindDevice(name);
  if (device == nullptr) return;
  if (cordon) {
    Post(core::CordonRequested{device->id, "drawn"});
  } else {
    Post(core::UncordonRequested{device->id});
  }
}

void SimScheduler::Drain(const std::string& name, int64_t deadline_us, core::OnDeadline on_deadline, bool force) {
  const core::Device* device = FindDevice(name);
  if (device == nullptr) return;
  core::DrainRequested event;
  event.operation = operations_.Open("drain", "", "").id;
  event.devices = {device->id};
  event.reason = "drawn";
  event.deadline = {deadline_us};
  event.on_deadline = on_deadline;
  event.force = force;
  scheduler::store::Operation row;
  row.devices = {name};
  row.reason = event.reason;
  row.on_deadline = scheduler::OnDeadlineWord(on_deadline);
  row.force = force;
  row.deadline_us = world_->now() + deadline_us;
  scheduler::store::Batch batch;
  batch.operations.push_back(operations_.Describe(event.operation, std::move(row)));
  Write(std::move(batch), [this, event = std::move(event)] {
    promises_->insert(event.operation);
    Post(event);
  });
}

void SimScheduler::Undrain(const std::string& name) {
  if (const core::Device* device = FindDevice(name)) Post(core::UndrainRequested{device->id});
}

}  // namespace tandem::sim
