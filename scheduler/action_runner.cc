#include "scheduler/action_runner.h"

#include <glog/logging.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "scheduler/core/rollout.h"
#include "scheduler/core/words.h"
#include "scheduler/ids.h"
#include "scheduler/translate.h"

namespace tandem::scheduler {
namespace {

FinishedRequest MeasuresFrom(const v1::Finished& result) {
  FinishedRequest out;
  out.prompt_tokens = result.usage().prompt_tokens();
  out.output_tokens = result.usage().completion_tokens();
  out.cached_tokens = result.usage().cached_tokens();
  out.unsent_tokens = result.has_stop_token_id() ? 1 : 0;
  out.queue = static_cast<double>(result.timings().queue_us()) / 1e6;
  out.first_token = static_cast<double>(result.timings().first_token_us()) / 1e6;
  out.total = static_cast<double>(result.timings().total_us()) / 1e6;
  out.stopped = result.reason() == v1::STOP;
  return out;
}

}  // namespace

ActionRunner::ActionRunner(Parts parts, Settings settings, Post post, OnChange on_change, OnSettled on_settled)
    : parts_(parts),
      settings_(settings),
      post_(std::move(post)),
      on_change_(std::move(on_change)),
      on_settled_(std::move(on_settled)) {}

void ActionRunner::Run(core::Instant now, const core::Actions& actions) {
  now_ = now;
  for (const core::Action& action : actions) {
    std::visit([this](const auto& a) { Do(a); }, action);
  }
  parts_.intents->EndOfStep();
}

void ActionRunner::Decided(absl::Duration took) {
  if (parts_.metrics != nullptr) parts_.metrics->Decided(absl::ToDoubleSeconds(took));
}

void ActionRunner::EndOfBatch(const core::Core& core) {
  if (core.state().settled && !std::exchange(settled_, true)) on_settled_();
  if (!std::exchange(told_, false)) return;
  numerics_.clear();
  for (const auto& [id, group] : core.state().groups) numerics_[id.value] = group.numerics_id;
  on_change_(core.state());
}

void ActionRunner::Send(core::DeviceId device, v1::AttachResponse command) {
  if (const auto link = parts_.registry->Find(device)) link->Send(std::move(command));
}

// ---- workers ------------------------------------------------------------------------------------------------------

void ActionRunner::Do(const core::AdmitWorker& action) {
  if (const auto link = parts_.registry->Admit(action.device, action.incarnation)) {
    link->Admit(action.device);
  } else {
    post_(core::WorkerDetached{action.device, action.incarnation, false, "its stream ended before it was admitted"});
  }
}

void ActionRunner::Do(const core::RefuseWorker& action) {
  LOG(WARNING) << "refused " << action.device_name << ": " << action.why;
  if (const auto link = parts_.registry->Find(action.incarnation)) {
    link->Close(absl::FailedPreconditionError(action.why));
  }
}

void ActionRunner::Do(const core::FormGroup& action) {
  v1::AttachResponse command;
  auto& form = *command.mutable_form_group();
  *form.mutable_group() = GroupKeyFrom(action.group, action.epoch);
  form.set_size(action.members.size());
  form.set_secret(RandomBytes(16));
  form.set_deadline_ms(ToMilliseconds(action.deadline));
  for (core::DeviceId member : action.members) {
    // A member whose stream has ended leaves a blank; the core is about to hear of it and will abort the group.
    const auto link = parts_.registry->Find(member);
    form.add_endpoints(link ? link->hello().rendezvous() : "");
  }
  for (size_t rank = 0; rank < action.members.size(); ++rank) {
    form.set_rank(rank);
    Send(action.members[rank], command);
  }
}

void ActionRunner::Do(const core::LoadModel& action) {
  const ServedModelPtr held = parts_.catalog->At(action.model);
  const ServedModel& model = *held;
  v1::AttachResponse command;
  auto& load = *command.mutable_load_model();
  *load.mutable_group() = GroupKeyFrom(action.group, action.epoch);
  load.set_model(model.spec.name);
  load.set_path(model.spec.path);
  for (const auto& file : model.manifest) {
    auto& entry = *load.add_manifest();
    entry.set_name(file.name);
    entry.set_size_bytes(file.bytes);
    entry.set_sha256(file.sha256);
  }
  load.set_task(model.spec.task);
  load.set_dtype(model.spec.dtype);
  load.set_max_model_len(model.spec.max_model_len);
  load.set_max_sequences(model.spec.max_sequences);
  load.set_max_batch_tokens(model.spec.max_batch_tokens);
  load.set_kv_min_bytes(action.kv_min.value);
  load.set_kv_target_bytes(action.kv_target.value);
  load.set_step_budget_ms(settings_.step_budget_ms);
  load.set_prefix_cache(settings_.prefix_cache);
  load.set_deployment(core::DeploymentOf(model.spec));
  load.set_deadline_ms(ToMilliseconds(action.deadline));
  for (core::DeviceId member : action.members) Send(member, command);
}

void ActionRunner::Do(const core::DissolveGroup& action) {
  v1::AttachResponse command;
  *command.mutable_dissolve_group()->mutable_group() = GroupKeyFrom(action.group, action.epoch);
  for (core::DeviceId member : action.members) Send(member, command);
}

void ActionRunner::Do(const core::AbortGroup& action) {
  v1::AttachResponse command;
  *command.mutable_abort_group()->mutable_group() = GroupKeyFrom(action.group, action.epoch);
  command.mutable_abort_group()->set_reason(action.why);
  for (core::DeviceId member : action.members) Send(member, command);
}

void ActionRunner::Do(const core::MeasureLink& action) {
  const core::DeviceId ends[] = {action.a, action.b};
  std::shared_ptr<WorkerLink> links[2];
  for (int rank : {0, 1}) {
    links[rank] = parts_.registry->Find(ends[rank]);
    if (links[rank] == nullptr) {
      return post_(core::LinkProbeFailed{ends[rank], action.probe, "its stream ended before it was told"});
    }
  }
  v1::AttachResponse command;
  auto& measure = *command.mutable_measure_link();
  measure.set_probe(action.probe);
  measure.set_secret(RandomBytes(16));
  measure.set_deadline_ms(ToMilliseconds(action.deadline));
  measure.set_leader_epoch(settings_.leader_epoch);
  for (const auto& link : links) measure.add_endpoints(link->hello().rendezvous());
  for (int rank : {0, 1}) {
    measure.set_rank(rank);
    measure.set_peer_uuid(links[1 - rank]->hello().device().uuid());
    links[rank]->Send(command);
  }
}

void ActionRunner::Do(const core::DropWorker& action) {
  const auto link = parts_.registry->Find(action.device);
  if (link && link->incarnation() == action.incarnation) link->Close(absl::UnavailableError(action.why));
}

void ActionRunner::Do(const core::ParkWorker& action) {
  const auto link = parts_.registry->Find(action.device);
  if (!link || link->incarnation() != action.incarnation) return;  // its end is on the way to the core
  v1::AttachResponse command;
  command.mutable_park();
  link->Send(std::move(command));
}

// ---- requests -----------------------------------------------------------------------------------------------------

void ActionRunner::Do(const core::AssignRequest& action) {
  const auto stream = parts_.store->Find(action.request);
  RequestStream::Assignment assignment;
  assignment.attempt = action.attempt;
  assignment.group = action.group;
  assignment.epoch = action.epoch;
  assignment.rank0 = action.rank0;
  assignment.max_tokens = static_cast<uint32_t>(action.max_tokens.value);
  if (const auto it = numerics_.find(action.group.value); it != numerics_.end()) assignment.numerics_id = it->second;
  v1::AttachResponse command;
  if (!stream || !stream->OnAssigned(assignment, command.mutable_assign_request())) {
    // The client has its end already: no engine hears of this attempt, so its end comes from here.
    core::RequestEnded ended{action.request, action.attempt, core::EndedHow::kAborted, {}, "its client is gone"};
    if (stream) ended = stream->HowEnded(action.attempt);
    // Without one of these it would be tried elsewhere.
    const std::optional<Error> failure = stream ? stream->failure() : std::nullopt;
    if (failure && failure->kind == kEngineFault) {  // the router's word of it is on its way, or before this
      post_(core::RequestSpoiled{action.request, failure->message});
    } else if (ended.how == core::EndedHow::kAborted) {
      post_(core::RequestCancelled{action.request, core::CancelCause::kClientLeft});
    }
    return post_(std::move(ended));
  }
  if (action.deadline != core::kNever) {
    // 0 means none, and what has passed is told with the least that can be said.
    command.mutable_assign_request()->set_deadline_ms(std::max<uint64_t>(1, ToMilliseconds(action.deadline - now_)));
  }
  Send(action.rank0, std::move(command));
  stream->OnDispatched();
}

void ActionRunner::Do(const core::AbortAttempt& action) {
  v1::AttachResponse command;
  auto& abort = *command.mutable_abort_attempt();
  *abort.mutable_key() = AttemptKeyFrom(action.request, action.attempt);
  *abort.mutable_group() = GroupKeyFrom(action.group, action.epoch);
  abort.set_reason(action.why);
  Send(action.rank0, std::move(command));
}

void ActionRunner::Do(const core::NoteQueued& action) {
  if (const auto stream = parts_.store->Find(action.request)) stream->OnQueued(action.why);
}

void ActionRunner::Do(const core::FailRequest& action) {
  if (const auto stream = parts_.store->Find(action.request)) {
    stream->Fail({KindOf(action.reason), action.message, action.retry_after});
    if (parts_.log != nullptr) parts_.log->Failed(*stream, core::Words(action.reason), action.message, now_);
  }
  LetGo(action.request);
}

void ActionRunner::Do(const core::CompleteRequest& action) {
  if (const auto stream = parts_.store->Find(action.request)) {
    const auto result = stream->Result();
    if (result && stream->facts().flow != nullptr) stream->facts().flow->Finished(MeasuresFrom(*result));
    // An engine came to its end, and its client was told of a failure: a picture that is none, a shutdown.
    const auto failure = stream->failure();
    if (failure && parts_.log != nullptr) parts_.log->Failed(*stream, failure->kind.reason, failure->message, now_);
  }
  LetGo(action.request);
}

void ActionRunner::LetGo(core::RequestId request) {
  if (const auto stream = parts_.store->Find(request)) {
    stream->Release();
    // A vector is read by the call that asked for it or by nobody: nothing is kept for who comes later.
    if (stream->facts().vector_bytes > 0) return parts_.store->Remove(*stream);
    parts_.store->Retire(stream, now_);
  }
}

// ---- operators ----------------------------------------------------------------------------------------------------

void ActionRunner::Do(const core::ReportDrain& action) { parts_.operations->Report(action); }

void ActionRunner::Do(const core::AskDrain& action) { post_(parts_.intents->Ask(action)); }

void ActionRunner::Do(const core::Tell& action) {
  told_ = true;
  LOG(INFO) << action.subject << ": " << action.text;
  parts_.events->Append(action.subject, action.text, now_);
}

// ---- the store ----------------------------------------------------------------------------------------------------

void ActionRunner::Do(const core::KeepDevice& action) { parts_.intents->Keep(action); }

void ActionRunner::Do(const core::ForgetDevice& action) { parts_.intents->Keep(action); }

void ActionRunner::Do(const core::KeepDrain& action) {
  const std::optional<double> lasted = parts_.intents->Keep(action);
  if (parts_.metrics != nullptr && action.outcome != core::DrainOutcome::kRunning) {
    parts_.metrics->DrainEnded(action.outcome, lasted.value_or(-1));
  }
}

}  // namespace tandem::scheduler
