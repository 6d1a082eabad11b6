#include "scheduler/token_router.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "scheduler/clock.h"
#include "scheduler/found_request.h"
#include "scheduler/ids.h"
#include "scheduler/translate.h"

namespace tandem::scheduler {
namespace {

// A waiting client is told its place with every tenth sweep: less often than Progress is promised would be stale.
constexpr int kSweepsPerPosition = 10;
constexpr size_t kMostPositions = 1024;
constexpr int kMostKeysGathered = 1024;

absl::Duration ToAbsl(core::Duration d) { return absl::Microseconds(d.us); }

core::RequestSpoiled Spoiled(const RequestStream& stream, const v1::GroupKey& group) {
  LOG(ERROR) << "request " << ToHex(stream.facts().id) << " of model " << stream.facts().model
             << " was given up: its tokens did not come whole from group " << group.group_id();
  return {stream.facts().id, stream.failure()->message};
}

}  // namespace

TokenRouter::TokenRouter(const ModelCatalog* catalog, RequestStore* store, Reattachment* reattachment,
                         const Times& times, Doors doors)
    : catalog_(catalog),
      store_(store),
      reattachment_(reattachment),
      times_(times),
      doors_(std::move(doors)),
      slow_clients_(times.client_stall) {
  SetAlarm({Now() + times_.reattach_grace, Alarm::kReattachOver, {}});
}

TokenRouter::~TokenRouter() { Stop(); }

void TokenRouter::Start() {
  clock_ = std::thread([this] { RunClock(); });
}

void TokenRouter::Stop() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    changed_.Signal();
  }
  if (clock_.joinable()) clock_.join();
}

void TokenRouter::Route(const v1::TokensRequest& message) {
  const core::Instant now = Now();
  // Clients first: waking the core, or writing to the worker, would cost them its time.
  std::vector<core::Event> news;
  for (int i = 0; i < message.updates_size(); ++i) {
    const v1::RequestUpdate& update = message.updates(i);
    const auto id = RequestIdFromBytes(update.key().request_id());
    if (!id) {
      LOG_EVERY_N(WARNING, 1000) << "a worker sent an update without a request id";
      continue;
    }
    const core::Attempt attempt = AttemptFrom(update.key());
    // One message often starts, feeds and ends the same request; its clients hear of it once.
    const bool flush =
        i + 1 == message.updates_size() || message.updates(i + 1).key().request_id() != update.key().request_id();
    if (update.has_held()) {
      TakeUp(message, update, *id, now, &news);
      continue;
    }
    const auto stream = store_->Find(*id);
    auto verdict = RequestStream::Verdict::kStale;
    if (stream && stream->facts().origin == RequestStream::Origin::kFoundEnded) {
      RouteEnded(update, stream, now);
      continue;
    }
    // The core hears of every start and end, known here or not: bookings are released on the worker's word alone.
    switch (update.event_case()) {
      case v1::RequestUpdate::kStarted:
        if (stream) verdict = stream->OnStarted(attempt, update.started().cached_tokens(), flush);
        news.push_back(core::RequestStarted{*id, attempt, {update.started().cached_tokens()}, {}});
        // The core counts tokens at starts and ends only, and a first attempt starts with those it knows.
        if (stream && attempt.counter > 1) {
          std::get<core::RequestStarted>(news.back()).output = {static_cast<int64_t>(stream->output_tokens())};
        }
        break;
      case v1::RequestUpdate::kProduced:
        if (stream) verdict = stream->OnProduced(attempt, update.produced(), now, flush);
        break;
      case v1::RequestUpdate::kPreempted:
        if (stream) verdict = stream->OnPreempted(attempt, flush);
        news.push_back(core::RequestPreempted{*id, attempt});
        break;
      case v1::RequestUpdate::kEnded:
        if (stream) verdict = stream->OnEnded(attempt, update.ended(), now, flush);
        // Ahead of its end, which the core would take for a good one.
        if (verdict == RequestStream::Verdict::kSpoiled) news.push_back(Spoiled(*stream, message.group()));
        news.push_back(RequestEndedFrom(*id, attempt, update.ended()));
        if (stream) GatherAcknowledgement(*stream, update.key());
        break;
      case v1::RequestUpdate::kHeld:
      case v1::RequestUpdate::EVENT_NOT_SET:
        break;
    }
    switch (verdict) {
      case RequestStream::Verdict::kComputed:
        news.push_back(core::RequestComputed{*id, attempt});
        [[fallthrough]];
      case RequestStream::Verdict::kNothing:
        if (stream->facts().chunk_interval.us > 0) ArmGather(stream);
        break;
      case RequestStream::Verdict::kStale:
        stale_updates_.fetch_add(1, std::memory_order_relaxed);
        break;
      case RequestStream::Verdict::kStopped:
        news.push_back(core::RequestStopped{*id, attempt, {static_cast<int64_t>(stream->output_tokens())}});
        break;
      case RequestStream::Verdict::kSpoiled:
        if (!update.has_ended()) news.push_back(Spoiled(*stream, message.group()));
        break;
    }
  }
  for (core::Event& event : news) doors_.post(std::move(event));
}

// ---- of an earlier scheduler --------------------------------------------------------------------------------------

void TokenRouter::TakeUp(const v1::TokensRequest& message, const v1::RequestUpdate& update, core::RequestId id,
                         core::Instant now, std::vector<core::Event>* news) {
  const core::Attempt attempt = AttemptFrom(update.key());
  const v1::Held& held = update.held();
  const auto known = store_->Find(id);
  if (known && known->attempt() == attempt) return;  // said again: a line broke
  if (known && (known->Ended() || known->attempt() > attempt || held.ended())) {
    return TurnAway(message, update, "this scheduler has a later attempt of it, or its end");
  }
  const auto incarnation = IncarnationFromBytes(message.incarnation());
  const auto device = incarnation ? doors_.device_of(*incarnation) : std::nullopt;
  if (!device || held.request().key().SerializeAsString() != update.key().SerializeAsString()) {
    LOG_EVERY_N(WARNING, 1000) << "a worker holds a request and does not say well who it is, or which";
    return;
  }
  auto found = FoundFrom(held, *device, *catalog_, doors_.metrics, now);
  if (!found.ok()) {
    LOG(WARNING) << "request " << ToHex(id) << " of an earlier scheduler cannot go on: " << found.status().message();
    reattachment_->OnGivenUp(id);
    return TurnAway(message, update, std::string(found.status().message()));
  }
  std::shared_ptr<RequestStream> stream = found->stream;
  if (!known) {
    if (store_->AddOrFind(stream) != stream) {
      reattachment_->OnGivenUp(id);
      return TurnAway(message, update, "its client has sent it again since");
    }
  } else if (known->HasReaders()) {
    stream = known;
    stream->OnFound(found->assignment);
  } else {
    store_->Replace(stream);
  }
  if (!held.ended()) news->push_back(std::move(found->event));
  SetAlarm({now + times_.reattach_grace, Alarm::kNobodyCameBack, stream});
  reattachment_->OnFound(stream);
}

void TokenRouter::TurnAway(const v1::TokensRequest& message, const v1::RequestUpdate& update, const std::string& why) {
  stale_updates_.fetch_add(1, std::memory_order_relaxed);
  const auto incarnation = IncarnationFromBytes(message.incarnation());
  const auto device = incarnation ? doors_.device_of(*incarnation) : std::nullopt;
  if (!device) return;
  v1::AttachResponse command;
  if (update.held().ended()) {
    *command.mutable_acknowledge_end()->add_keys() = update.key();
  } else {
    auto& abort = *command.mutable_abort_attempt();
    *abort.mutable_key() = update.key();
    *abort.mutable_group() = message.group();
    abort.set_reason(why);
  }
  doors_.send(*device, std::move(command));
}

void TokenRouter::RouteEnded(const v1::RequestUpdate& update, const std::shared_ptr<RequestStream>& stream,
                             core::Instant now) {
  const core::Attempt attempt = AttemptFrom(update.key());
  switch (update.event_case()) {
    case v1::RequestUpdate::kStarted:
      stream->OnStarted(attempt, update.started().cached_tokens(), false);
      break;
    case v1::RequestUpdate::kProduced:
      stream->OnProduced(attempt, update.produced(), now, true);
      break;
    case v1::RequestUpdate::kEnded:
      stream->OnEnded(attempt, update.ended(), now, true);
      GatherAcknowledgement(*stream, update.key());
      Conclude(stream, now);
      break;
    default:
      break;
  }
}

void TokenRouter::Conclude(const std::shared_ptr<RequestStream>& stream, core::Instant now) {
  stream->Release();
  if (stream->Ended()) return store_->Retire(stream, now);
  store_->Remove(*stream);
  stream->Fail(
      {kResumeUnknown, "it was given up before this scheduler started; send Generate again with resume_token_ids"});
}

// ---- ends ---------------------------------------------------------------------------------------------------------

void TokenRouter::GatherAcknowledgement(const RequestStream& stream, const v1::AttemptKey& key) {
  const auto rank0 = stream.Rank0(AttemptFrom(key));
  if (!rank0) return;
  v1::AttachResponse full;
  {
    absl::MutexLock lock(&acks_mu_);
    v1::AttachResponse& gathered = acks_[*rank0];
    *gathered.mutable_acknowledge_end()->add_keys() = key;
    if (gathered.acknowledge_end().keys_size() < kMostKeysGathered) return;
    full = std::move(gathered);
    acks_.erase(*rank0);
  }
  doors_.send(*rank0, std::move(full));
}

void TokenRouter::SendAcknowledgements() {
  std::map<core::DeviceId, v1::AttachResponse> gathered;
  {
    absl::MutexLock lock(&acks_mu_);
    gathered.swap(acks_);
  }
  for (auto& [rank0, acknowledgement] : gathered) doors_.send(rank0, std::move(acknowledgement));
}

void TokenRouter::ClientLeft(const std::shared_ptr<RequestStream>& stream) {
  if (stream->facts().idempotency_key.empty()) {
    Cancel(stream);
  } else if (!stream->Ended() && !stream->HasReaders()) {
    SetAlarm({Now() + times_.detach_grace, Alarm::kNobodyCameBack, stream});
  }
}

void TokenRouter::Cancel(const std::shared_ptr<RequestStream>& stream) {
  if (!stream->AbandonUnread()) return;
  doors_.post(core::RequestCancelled{stream->facts().id, core::CancelCause::kClientLeft});
}

void TokenRouter::ArmGather(const std::shared_ptr<RequestStream>& stream) {
  const core::Instant due = stream->TakeGatherDue();
  if (due != core::kNever) SetAlarm({due, Alarm::kGathered, stream});
}

void TokenRouter::SetAlarm(Alarm alarm) {
  absl::MutexLock lock(&mu_);
  const bool first = alarms_.empty() || alarm.due < alarms_.top().due;
  alarms_.push(std::move(alarm));
  if (first) changed_.Signal();
}

void TokenRouter::Ring(const Alarm& alarm, core::Instant now) {
  if (alarm.kind == Alarm::kReattachOver) return reattachment_->Close();
  const auto stream = alarm.stream.lock();
  if (!stream) return;
  switch (alarm.kind) {
    case Alarm::kGathered:
      stream->OnTick(now, now + core::Duration{-times_.progress_every.us});
      ArmGather(stream);
      break;
    case Alarm::kNobodyCameBack:
      if (stream->Ended()) break;
      if (stream->facts().origin == RequestStream::Origin::kFoundEnded) {
        Conclude(stream, now);  // its worker went before it had told all
      } else {
        Cancel(stream);
      }
      break;
    case Alarm::kReattachOver:
      break;
  }
}

void TokenRouter::Sweep(core::Instant now) {
  SendAcknowledgements();
  slow_clients_.DropStalled(now);
  store_->Expire(now);
  if (store_->living() == 0) return;
  const auto living = store_->Living();
  if (sweeps_++ % kSweepsPerPosition == 0) {
    std::vector<std::shared_ptr<RequestStream>> waiting;
    for (const auto& stream : living) {
      const core::RequestState state = stream->state();
      const bool waits = state == core::RequestState::kQueued || state == core::RequestState::kMigrating;
      if (waits && waiting.size() < kMostPositions) waiting.push_back(stream);
    }
    if (!waiting.empty()) doors_.ask_positions(std::move(waiting));
  }
  for (const auto& stream : living) stream->OnTick(now, now + core::Duration{-times_.progress_every.us});
}

core::Instant TokenRouter::Turn(core::Instant now) {
  std::vector<Alarm> due;
  {
    absl::MutexLock lock(&mu_);
    while (!alarms_.empty() && alarms_.top().due <= now) {
      due.push_back(alarms_.top());
      alarms_.pop();
    }
  }
  for (const Alarm& alarm : due) Ring(alarm, now);
  if (next_sweep_ <= now) {
    Sweep(now);
    next_sweep_ = now + times_.sweep_every;
  }
  return next_sweep_;
}

void TokenRouter::RunClock() {
  while (true) {
    const core::Instant next_sweep = Turn(Now());
    absl::MutexLock lock(&mu_);
    if (stopping_) return;
    const core::Instant wake = alarms_.empty() ? next_sweep : std::min(next_sweep, alarms_.top().due);
    const core::Instant now = Now();
    if (wake > now) changed_.WaitFor(&mu_, ToAbsl(wake - now));
    if (stopping_) return;
  }
}

}  // namespace tandem::scheduler
