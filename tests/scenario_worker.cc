#include "tests/scenario_worker.h"

#include <algorithm>
#include <utility>
#include <variant>
#include <vector>

#include "scheduler/core/rollout.h"

namespace tandem::core {

ScenarioWorker::ScenarioWorker(DeviceSpec spec, Incarnation incarnation)
    : spec_(std::move(spec)), incarnation_(incarnation) {}

WorkerAttached ScenarioWorker::Attach(uint64_t leader_epoch) {
  attached_ = true;
  leader_epoch_ = leader_epoch;
  answers_.clear();
  WorkerAttached event;
  event.device = spec_;
  event.incarnation = incarnation_;
  event.parked = parked_;
  for (auto& [id, shard] : held_) {
    shard.requests.clear();
    for (const auto& [request, work] : work_) {
      if (work.group == id) shard.requests.push_back({request, work.attempt, work.prompt, {}, false});
    }
    event.shards.push_back(shard);
  }
  return event;
}

void ScenarioWorker::TellHeld() {
  for (const auto& [request, work] : work_) {
    const auto shard = held_.find(work.group);
    if (work.attempt.leader >= leader_epoch_ || shard == held_.end()) continue;
    RequestFound found;
    found.request = request;
    found.attempt = work.attempt;
    found.group = work.group;
    found.epoch = shard->second.epoch;
    found.rank0 = device_;
    found.model = shard->second.model;
    found.prompt = work.prompt;
    found.max_tokens = work.most;
    Report(found);
    if (work.started) Report(RequestStarted{request, work.attempt, {}});
  }
}

void ScenarioWorker::Restart(Incarnation incarnation) {
  incarnation_ = incarnation;
  attached_ = false;
  parked_ = false;
  held_.clear();
  work_.clear();
  answers_.clear();
}

void ScenarioWorker::Park() {
  const WorkerDetached end{device_, incarnation_, false, "it parks"};
  Restart({incarnation_.hi, incarnation_.lo + 1000});
  parked_ = true;
  const WorkerAttached begin = Attach();
  Report(end);
  Report(begin);
}

void ScenarioWorker::Form(const FormGroup& action) {
  parked_ = false;
  HeldShard shard;
  shard.group = action.group;
  shard.epoch = action.epoch;
  shard.size = static_cast<int>(action.members.size());
  shard.rank =
      static_cast<int>(std::find(action.members.begin(), action.members.end(), device_) - action.members.begin());
  held_[action.group] = shard;
  Report(GroupFormed{device_, action.group, action.epoch});
}

void ScenarioWorker::Load(const LoadModel& action, const ModelSpec& model) {
  const auto it = held_.find(action.group);
  if (it == held_.end()) return;
  HeldShard& shard = it->second;
  Bytes static_bytes, per_token{1};
  for (const ShardCost& cost : model.costs) {
    if (cost.tensor_parallel == shard.size) static_bytes = cost.static_bytes, per_token = cost.kv_bytes_per_token;
  }
  shard.model = model.name;
  shard.deployment = DeploymentOf(model);
  shard.ready = true;
  shard.kv_blocks = static_cast<int32_t>(action.kv_target.value / (per_token.value * 16));
  Report(ModelLoaded{device_, action.group, action.epoch, static_bytes});
  if (shard.rank != 0) return;
  Report(GroupReady{device_,
                    action.group,
                    action.epoch,
                    shard.kv_blocks,
                    16,
                    model.max_sequences,
                    model.max_model_len,
                    {shard.kv_blocks * per_token.value * 16},
                    numerics_});
}

void ScenarioWorker::Leave(GroupId group, GroupEpoch epoch) {
  held_.erase(group);
  std::erase_if(work_, [&](const auto& work) { return work.second.group == group; });
  Report(GroupLeft{device_, group, epoch});
}

void ScenarioWorker::Obey(const Action& action, const std::deque<ModelSpec>& models) {
  const auto mine = [&](const std::vector<DeviceId>& members) {
    return attached_ && std::find(members.begin(), members.end(), device_) != members.end();
  };
  if (const auto* admit = std::get_if<AdmitWorker>(&action)) {
    if (admit->incarnation != incarnation_) return;
    device_ = admit->device;
    TellHeld();
  } else if (const auto* refuse = std::get_if<RefuseWorker>(&action)) {
    if (refuse->incarnation == incarnation_) CloseStream();
  } else if (const auto* drop = std::get_if<DropWorker>(&action)) {
    if (drop->incarnation == incarnation_) CloseStream();
  } else if (const auto* form = std::get_if<FormGroup>(&action)) {
    if (mine(form->members)) Form(*form);
  } else if (const auto* load = std::get_if<LoadModel>(&action)) {
    if (mine(load->members)) Load(*load, models[load->model.value]);
  } else if (const auto* measure = std::get_if<MeasureLink>(&action)) {
    const auto link = links_.find(measure->b);
    const int64_t bytes_per_second = link != links_.end() ? link->second : 5000000000;
    if (mine({measure->a})) Report(LinkMeasured{device_, measure->probe, 20000, bytes_per_second});
  } else if (const auto* park = std::get_if<ParkWorker>(&action)) {
    if (attached_ && park->incarnation == incarnation_) Park();
  } else if (const auto* dissolve = std::get_if<DissolveGroup>(&action)) {
    if (mine(dissolve->members)) Leave(dissolve->group, dissolve->epoch);
  } else if (const auto* abort = std::get_if<AbortGroup>(&action)) {
    if (mine(abort->members)) Leave(abort->group, abort->epoch);
  } else if (const auto* assign = std::get_if<AssignRequest>(&action)) {
    if (mine({assign->rank0})) work_[assign->request] = {assign->attempt, assign->group, {}, assign->max_tokens, false};
  } else if (const auto* stop = std::get_if<AbortAttempt>(&action)) {
    const auto it = work_.find(stop->request);
    if (mine({stop->rank0}) && it != work_.end() && it->second.attempt == stop->attempt)
      End(stop->request, EndedHow::kAborted, {});
  }
}

Event ScenarioWorker::TakeAnswer() {
  Event event = std::move(answers_.front());
  answers_.pop_front();
  return event;
}

HeartbeatReceived ScenarioWorker::Heartbeat() {
  HeartbeatReceived event;
  if (!standstill_.progress) ++progress_;
  if (!standstill_.steps && !work_.empty()) ++steps_;
  event.device = device_;
  event.incarnation = incarnation_;
  event.memory_free = spec_.memory_free;
  for (const auto& [id, shard] : held_) {
    GroupLoad load;
    load.group = id;
    load.epoch = shard.epoch;
    load.progress = progress_;
    load.busy = standstill_.busy;
    load.rank0 = shard.rank == 0;
    if (load.rank0) {
      load.free_blocks = free_blocks_ >= 0 ? free_blocks_ : shard.kv_blocks;
      load.running = static_cast<int32_t>(work_.size());
      load.steps = steps_;
      load.step_us = step_us_;
      load.step_tokens = step_tokens_;
    }
    event.loads.push_back(load);
  }
  return event;
}

void ScenarioWorker::Start(RequestId id, bool computed) {
  Work& work = work_.at(id);
  work.started = true;
  Report(RequestStarted{id, work.attempt, {}, {}});
  if (computed) Report(RequestComputed{id, work.attempt});
}

void ScenarioWorker::End(RequestId id, EndedHow how, Tokens output) {
  const Attempt attempt = work_.at(id).attempt;
  work_.erase(id);
  Report(RequestEnded{id, attempt, how, output, ""});
}

void ScenarioWorker::FailGroup(GroupId group, GroupFailure failure, const std::string& message) {
  const auto it = held_.find(group);
  if (it == held_.end()) return;
  const GroupEpoch epoch = it->second.epoch;
  held_.erase(it);
  std::erase_if(work_, [&](const auto& work) { return work.second.group == group; });
  Report(GroupFailed{device_, group, epoch, failure, message});
}

}  // namespace tandem::core
