#include "tests/sim/simulation.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler/model_catalog.h"
#include "scheduler/store/memory_store.h"
#include "tests/sim/checker.h"
#include "tests/sim/sim_client.h"
#include "tests/sim/sim_executor.h"
#include "tests/sim/sim_group.h"
#include "tests/sim/sim_scheduler.h"
#include "tests/sim/sim_worker.h"
#include "tests/sim/world.h"

namespace tandem::sim {
namespace {

// Of the calm.
constexpr int64_t kUndrainAfter = 16 * kSecond;  // The longest deadline of a drain, and some.
constexpr int64_t kGiveUpAfter = 40 * kSecond;   // Clients that got nothing yet, or whose model has no place.
constexpr int64_t kConvergeWithin = 180 * kSecond;
constexpr int64_t kLookEvery = 500 * kMs;

scheduler::ModelCatalog MakeCatalog(const Setup& setup, const std::shared_ptr<const tokenizer::Tokenizer>& tokenizer) {
  std::vector<scheduler::ServedModel> models;
  for (const core::ModelSpec& spec : setup.models) {
    scheduler::ServedModel model;
    model.spec = spec;
    model.limits.name = spec.name;
    model.limits.max_model_len = static_cast<uint32_t>(spec.max_model_len);
    model.limits.vocab_size = kVocab;
    model.tokenizer = tokenizer;
    models.push_back(std::move(model));
  }
  return scheduler::ModelCatalog(std::move(models));
}

class Simulation {
 public:
  Simulation(const Script& script, const RunOptions& options)
      : script_(script),
        setup_(DrawSetup(script.seed)),
        world_(script.seed * 31 + 7, options.print),
        catalog_(MakeCatalog(setup_, options.tokenizer)),
        meetings_(&world_) {
    for (const SimWorker::Place& place : setup_.places) {
      WorkerSurroundings around{
          .world = &world_,
          .meetings = &meetings_,
          .models = &setup_.models,
          .dial = [this](core::Incarnation incarnation, AttachStream::WorkerEnd end) -> std::shared_ptr<AttachStream> {
            return scheduler_ ? scheduler_->Accept(incarnation, std::move(end)) : nullptr;
          }};
      workers_.push_back(std::make_shared<SimWorker>(place, std::move(around)));
    }
  }
  ~Simulation() {
    if (scheduler_) scheduler_->Crash();
  }

  Result Run() {
    StartScheduler();
    for (const auto& worker : workers_) {
      world_.After(world_.random().Below(500 * kMs), [worker] { worker->Start(); });
    }
    const int64_t begin = world_.now();
    for (const Happening& happening : script_.happenings) {
      world_.After(happening.at_ms * kMs, [this, &happening] { Happen(happening); });
    }
    RunUntil(begin + setup_.storm_ms * kMs);
    if (!world_.failed()) CalmDown();
    return {.seed = script_.seed,
            .failure = world_.failure(),
            .events = world_.events(),
            .hash = world_.hash(),
            .simulated_us = world_.now() - begin,
            .counts = world_.counts()};
  }

 private:
  void RunUntil(int64_t until) {
    while (!world_.failed() && world_.Next(until)) {
    }
  }

  void StartScheduler() {
    if (scheduler_) return;
    scheduler_ = std::make_shared<SimScheduler>(&world_, &setup_, &catalog_, ++leader_epoch_, &disk_, &promises_,
                                                [this](const core::Core& core) { AfterStep(core); });
    scheduler_->Start();
  }

  void AfterStep(const core::Core& core) {
    if (const std::string wrong = CheckAlways(core, workers_); !wrong.empty()) world_.Fail(wrong);
    for (const auto& worker : workers_) {
      if (worker->obeys() > leader_epoch_) world_.Fail(absl::StrCat(worker->name(), " obeys a leader that never was"));
    }
  }

  SimWorker& At(const Happening& happening) { return *workers_[happening.with[0] % workers_.size()]; }

  // `what` unless the calm has come by then.
  void Later(int64_t ms, std::function<void()> what) {
    world_.After(ms * kMs, [this, what = std::move(what)] {
      if (!calm_) what();
    });
  }

  void Happen(const Happening& happening) {
    if (calm_) return;
    world_.Trace(absl::StrCat("* ", ToText(happening)));
    const auto& with = happening.with;
    if (happening.what != What::kRequest) world_.Count(Counter(happening.what));
    switch (happening.what) {
      case What::kRequest:
        return Request(happening);
      case What::kCrash:
        return At(happening).Crash(with[1] * kMs);
      case What::kStop:
        return At(happening).StopInOrder(with[1] * kMs);
      case What::kFreeze:
        At(happening).Freeze();
        return Later(with[1], [worker = &At(happening)] { worker->Thaw(); });
      case What::kSlow:
        At(happening).SetSlow(with[1]);
        return Later(with[2], [worker = &At(happening)] { worker->SetSlow(1); });
      case What::kCutStream:
        return At(happening).CutStream();
      case What::kCutTokens:
        return At(happening).CutTokens();
      case What::kPartition:
        At(happening).Partition(with[1] & 1, with[1] & 2);
        return Later(with[2], [worker = &At(happening)] { worker->Heal(); });
      case What::kStepFault:
        return At(happening).FailNextStep();
      case What::kSchedulerCrash:
        if (!scheduler_) return;
        std::exchange(scheduler_, nullptr)->Crash();
        return Later(with[0], [this] { StartScheduler(); });
      case What::kSchedulerPause:
        if (!scheduler_) return;
        scheduler_->Pause();
        return Later(with[0], [weak = std::weak_ptr(scheduler_)] {
          if (auto scheduler = weak.lock()) scheduler->Resume();
        });
      case What::kCordon:
      case What::kUncordon:
        if (scheduler_) scheduler_->Cordon(At(happening).name(), happening.what == What::kCordon);
        return;
      case What::kDrain:
        if (!scheduler_) return;
        return scheduler_->Drain(At(happening).name(), with[1] * kMs, static_cast<core::OnDeadline>(with[2] % 3),
                                 with[3] != 0);
      case What::kUndrain:
        if (scheduler_) scheduler_->Undrain(At(happening).name());
        return;
      case What::kClientBreak:
        if (SimClient* client = FindClient(with[0])) client->Break();
        return;
      case What::kClientCancel:
        if (SimClient* client = FindClient(with[0])) client->Cancel();
        return;
      case What::kClientStall:
        if (SimClient* client = FindClient(with[0])) client->Stall(with[1] * kMs);
        return;
      case What::kStick:
        return At(happening).Stick(with[1] * kMs);
      case What::kLie:
        return At(happening).Lie(with[1] * kMs, with[2] != 0);
      case What::kDeploy:
      case What::kUndeploy:
      case What::kScale:
        return ChangeModel(happening);
    }
  }

  // As Deployments does it: first what is kept, then the core. The catalog is what is kept here: it outlives a crash.
  void ChangeModel(const Happening& happening) {
    if (!scheduler_) return;
    const auto& with = happening.with;
    const core::ModelSpec& drawn = setup_.models[with[0] % setup_.models.size()];
    const scheduler::ServedModelPtr now = catalog_.FindNamed(drawn.name);
    const auto models = catalog_.models();
    const auto at = std::find(models.begin(), models.end(), now);
    const core::ModelId id{static_cast<uint32_t>(at - models.begin())};  // the next one, where there is none
    if (happening.what == What::kUndeploy) {
      if (!now) return;
      catalog_.Remove(id);
      return scheduler_->Operate(core::UndeployRequested{id, "drawn"});
    }
    if (happening.what == What::kScale) {
      if (!now) return;
      scheduler::ServedModel scaled = *now;
      scaled.spec.replicas_min = static_cast<int>(with[1]);
      scaled.spec.replicas_max = static_cast<int>(with[2]);
      catalog_.Put(id, scaled);
      return scheduler_->Operate(core::ScaleRequested{id, scaled.spec.replicas_min, scaled.spec.replicas_max, "drawn"});
    }
    scheduler::ServedModel served = now ? *now : *models[with[0] % setup_.models.size()];
    served.spec = drawn;
    served.spec.max_sequences = static_cast<int32_t>(with[1]);
    served.spec.replicas_max = static_cast<int>(with[2]);
    served.spec.kv_most = {with[3] * drawn.costs.front().kv_bytes_per_token.value};
    catalog_.Put(id, served);
    scheduler_->Operate(core::DeployRequested{id, served.spec, "drawn"});
  }

  bool Liars() const { return world_.counts().contains(Counter(What::kLie)); }

  static const char* Counter(What what) { return Word(what).data(); }  // The words are literals.

  SimClient* FindClient(int64_t name) {
    const auto it = std::find_if(clients_.begin(), clients_.end(), [&](const auto& c) { return c->name() == name; });
    return it == clients_.end() ? nullptr : it->get();
  }

  void Request(const Happening& happening) {
    const core::ModelSpec& model = setup_.models[happening.with[0] % setup_.models.size()];
    clients_.push_back(std::make_shared<SimClient>(
        &world_, setup_.delay_us, model, happening,
        [this](std::shared_ptr<SimCall> call, const v1::GenerateRequest& request, int64_t deadline_us) {
          if (scheduler_) {
            scheduler_->Generate(std::move(call), request, deadline_us);
          } else {
            call->Vanish();
          }
        },
        [this](std::shared_ptr<SimCall> call, const v1::ResumeRequest& request) {
          if (scheduler_) {
            scheduler_->Resume(std::move(call), request);
          } else {
            call->Vanish();
          }
        }));
    clients_.back()->Start();
  }

  void CalmDown() {
    world_.Trace("* calm");
    calm_ = true;
    const int64_t begin = world_.now();
    StartScheduler();
    scheduler_->Resume();
    for (const auto& worker : workers_) {
      worker->Thaw();
      worker->Heal();
      worker->SetSlow(1);
      worker->Unstick();
    }
    bool undrained = false, gave_up = false;
    std::string wrong, idle_before;
    while (!world_.failed() && world_.now() < begin + kConvergeWithin) {
      RunUntil(world_.now() + kLookEvery);
      if (world_.failed()) return;
      const std::string idle = undrained ? CheckBusy(scheduler_->core(), Liars()) : "";
      if (!idle.empty() && idle == idle_before) return world_.Fail(idle);
      idle_before = idle;
      if (!undrained && world_.now() >= begin + kUndrainAfter) {
        undrained = true;
        for (const auto& worker : workers_) {
          scheduler_->Undrain(worker->name());
          scheduler_->Cordon(worker->name(), false);
        }
      }
      if (!gave_up && world_.now() >= begin + kGiveUpAfter) {
        gave_up = true;
        GiveUp();
      }
      if (!undrained) continue;
      wrong = CheckQuiet(scheduler_->core(), workers_, clients_);
      if (wrong.empty()) return;
    }
    world_.Fail(absl::StrCat("does not come to rest within ", kConvergeWithin / kSecond, " s: ", wrong));
  }

  // A cluster may be drawn too small for all its models, or too slow for its load. Who waits for one that has no place,
  // or has not got a token yet, has no deadline, but patience. What must not be is that somebody waits while a group
  // has nothing to do: see CheckBusy.
  void GiveUp() {
    const core::ClusterState& state = scheduler_->core().state();
    for (const auto& client : clients_) {
      const core::Model* model = state.FindModel(client->model());
      const bool served = model != nullptr && state.ReadyReplicas(*model) > 0;
      if (!client->ended() && (!served || client->received() == 0)) client->Cancel();
    }
  }

  const Script& script_;
  const Setup setup_;
  World world_;
  scheduler::ModelCatalog catalog_;
  MeetingPlace meetings_;
  scheduler::store::MemoryStore disk_;
  SimScheduler::Promises promises_;
  uint64_t leader_epoch_ = 0;  // On disk: it outlives each scheduler.
  std::shared_ptr<SimScheduler> scheduler_;
  std::vector<std::shared_ptr<SimWorker>> workers_;
  std::vector<std::shared_ptr<SimClient>> clients_;
  bool calm_ = false;
};

}  // namespace

Result RunScript(const Script& script, const RunOptions& options) { return Simulation(script, options).Run(); }

}  // namespace tandem::sim
